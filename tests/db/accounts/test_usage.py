"""Limits of the door: a burst, then a steady rate; a day's tokens; exact however many processes count."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts import usage
from app.accounts.principal import Principal
from app.accounts.service import create_token
from app.accounts.usage import (
    Allowance,
    Limits,
    QuotaTooSmallError,
    QuotaUsedUpError,
    RateLimitedError,
    Share,
    Taken,
    settle,
)
from app.db.ids import new_id
from app.db.session import make_session_factory, transaction
from app.errors import DomainError
from app.settings import Settings
from tests.factories.rows import make_user
from tests.factories.threads import at_once

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SIX_A_MINUTE = Limits(requests_per_minute=6, tokens_per_day=0)


def share(taken: Taken) -> Share:
    (only,) = taken.shares
    return only


def take(db: Session, caller: UUID, limits: Limits, *, tokens: int = 0, now: datetime | None = None) -> Taken:
    return usage.take(db, [Allowance(caller, limits)], tokens=tokens, now=now)


def test_a_minutes_worth_at_once_then_one_for_each_step(db: Session) -> None:
    caller = new_id()
    left = [share(take(db, caller, SIX_A_MINUTE, now=NOON)).requests_left for _ in range(6)]
    assert left == [5, 4, 3, 2, 1, 0]
    with pytest.raises(RateLimitedError) as refused:
        take(db, caller, SIX_A_MINUTE, now=NOON)
    assert 1 <= refused.value.extra["retry_after_seconds"] <= 10
    assert refused.value.headers["X-RateLimit-Remaining-Requests"] == "0"
    assert share(take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(seconds=10))).requests_left == 0
    with pytest.raises(RateLimitedError):
        take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(seconds=11))
    assert share(take(db, new_id(), SIX_A_MINUTE, now=NOON)).requests_left == 5, "another caller has a row of their own"
    assert share(take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(minutes=5))).requests_left == 5


def test_waiting_as_long_as_told_is_enough(db: Session) -> None:
    caller = new_id()
    for _ in range(6):
        take(db, caller, SIX_A_MINUTE, now=NOON)
    with pytest.raises(RateLimitedError) as refused:
        take(db, caller, SIX_A_MINUTE, now=NOON)
    take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(seconds=refused.value.extra["retry_after_seconds"]))


def test_tokens_are_reserved_then_settled_and_a_day_begins_anew(db: Session) -> None:
    caller, limits = new_id(), Limits(requests_per_minute=1000, tokens_per_day=1000)
    first = take(db, caller, limits, tokens=600, now=NOON)
    assert share(first).tokens_left == 400
    with pytest.raises(QuotaUsedUpError) as refused:
        take(db, caller, limits, tokens=500, now=NOON)
    assert refused.value.extra["retry_after_seconds"] == 12 * 3600
    assert refused.value.headers["X-RateLimit-Remaining-Tokens"] == "400"
    settle(db, first, 100)
    assert share(take(db, caller, limits, tokens=500, now=NOON)).tokens_left == 400
    with pytest.raises(QuotaTooSmallError):  # which no day will change
        take(db, caller, limits, tokens=1001, now=NOON + timedelta(days=1))
    assert share(take(db, caller, limits, tokens=1000, now=NOON + timedelta(days=1))).tokens_left == 0
    settle(db, first, 0)  # of yesterday: takes nothing off today
    with pytest.raises(QuotaUsedUpError):
        take(db, caller, limits, tokens=1, now=NOON + timedelta(days=1))


def test_many_processes_at_once_let_through_no_more_than_one_would(fresh_engine: Engine) -> None:
    factory, caller = make_session_factory(fresh_engine), new_id()

    def ask() -> Taken | DomainError:
        try:
            with transaction(factory) as db:
                return take(db, caller, Limits(requests_per_minute=5, tokens_per_day=0))
        except RateLimitedError as error:
            return error

    answers = at_once(*[ask] * 12)
    assert sum(isinstance(answer, Taken) for answer in answers) == 5


class Person:
    """Somebody with keys, who asks under the limits of an installation."""

    def __init__(self, db: Session, **settings: int) -> None:
        self.db, self.user = db, make_user(db)
        self.settings = Settings(**settings)  # type: ignore[arg-type]

    def key(self, **terms: int) -> Principal:
        token, _ = create_token(self.db, user=self.user, name="key", scopes=["chat"], **terms)  # type: ignore[arg-type]
        return self._principal(token.id)

    def browser(self) -> Principal:
        return self._principal(None)

    def ask(self, principal: Principal, *, tokens: int = 0, now: datetime = NOON) -> Taken:
        allowed = usage.allowances(self.db, principal, self.settings)
        return usage.take(self.db, allowed, tokens=tokens, now=now)

    def _principal(self, token_id: UUID | None) -> Principal:
        via: Literal["session", "token"] = "token" if token_id else "session"
        return Principal(self.user.id, self.user.email, "", False, via=via, token_id=token_id)


def test_many_keys_have_no_more_requests_than_their_owner(db: Session) -> None:
    ada = Person(db, chat_requests_per_minute=3, chat_person_keys=2)
    keys = [ada.key() for _ in range(8)]
    left = [ada.ask(key).headers()["X-RateLimit-Remaining-Requests"] for key in keys[:6]]
    assert left == ["2", "2", "2", "2", "1", "0"], "of key and person, that which has less left"
    with pytest.raises(RateLimitedError) as refused:
        ada.ask(keys[6])
    assert "with all your keys together" in refused.value.message
    assert refused.value.headers["X-RateLimit-Limit-Requests"] == "6"
    assert refused.value.headers["X-RateLimit-Remaining-Requests"] == "0"
    assert 1 <= refused.value.extra["retry_after_seconds"] <= 10
    with pytest.raises(RateLimitedError):
        ada.ask(ada.browser())
    later = NOON + timedelta(seconds=refused.value.extra["retry_after_seconds"])
    assert ada.ask(keys[6], now=later).headers()["X-RateLimit-Remaining-Requests"] == "0"
    bob = Person(db, chat_requests_per_minute=3, chat_person_keys=2)
    assert bob.ask(bob.key()).headers()["X-RateLimit-Remaining-Requests"] == "2", "another person"


def test_what_the_person_is_refused_is_not_counted_for_the_key(db: Session) -> None:
    ada = Person(db, chat_requests_per_minute=2, chat_person_keys=1)
    used, fresh = ada.key(), ada.key()
    for _ in range(2):
        ada.ask(used)
    for _ in range(3):
        with pytest.raises(RateLimitedError) as refused:
            ada.ask(fresh)
        assert "with all your keys together" in refused.value.message
    alone = ada.settings.model_copy(update={"chat_person_keys": 0})
    taken = usage.take(db, usage.allowances(db, fresh, alone), now=NOON)
    assert share(taken).requests_left == 1


def test_many_keys_have_no_more_tokens_than_their_owner(db: Session) -> None:
    ada = Person(db, chat_tokens_per_day=1000, chat_person_keys=2)
    first, second, third = ada.key(), ada.key(), ada.key()
    taken = ada.ask(first, tokens=900)
    assert taken.headers()["X-RateLimit-Remaining-Tokens"] == "100"
    ada.ask(second, tokens=900)
    with pytest.raises(QuotaUsedUpError) as refused:
        ada.ask(third, tokens=300)
    assert "200 are left" in refused.value.message
    assert refused.value.headers["X-RateLimit-Limit-Tokens"] == "2000"
    settle(db, taken, 100)
    assert ada.ask(third, tokens=900).headers()["X-RateLimit-Remaining-Tokens"] == "100", "both rows are settled"
    with pytest.raises(QuotaTooSmallError) as hopeless:
        ada.ask(ada.browser(), tokens=2001)
    assert "with all your keys together" in hopeless.value.message


def test_a_key_with_limits_of_its_own_counts_by_itself(db: Session) -> None:
    ada = Person(db, chat_requests_per_minute=2, chat_tokens_per_day=1000, chat_person_keys=1)
    own = ada.key(requests_per_minute=5, tokens_per_day=5000)
    usual, fast = ada.key(), ada.key(requests_per_minute=5)
    for _ in range(5):
        taken = ada.ask(own, tokens=1000)
    assert taken.headers()["X-RateLimit-Remaining-Tokens"] == "0"
    assert ada.ask(usual, tokens=400).headers()["X-RateLimit-Remaining-Requests"] == "1"
    for _ in range(4):
        taken = ada.ask(fast, tokens=100)
    assert taken.headers() | {"X-RateLimit-Reset-Requests": ""} == {
        "X-RateLimit-Limit-Requests": "5",
        "X-RateLimit-Remaining-Requests": "1",
        "X-RateLimit-Reset-Requests": "",
        "X-RateLimit-Limit-Tokens": "1000",
        "X-RateLimit-Remaining-Tokens": "200",
        "X-RateLimit-Reset-Tokens": "43200s",
    }
    assert ada.ask(usual).headers()["X-RateLimit-Remaining-Requests"] == "0", "its requests are not the person's"


def test_without_a_limit_for_people_each_key_has_its_own_alone(db: Session) -> None:
    ada = Person(db, chat_requests_per_minute=1, chat_tokens_per_day=0, chat_person_keys=0)
    for principal in [ada.key(), ada.key(), ada.browser()]:
        assert ada.ask(principal, tokens=10**9).headers()["X-RateLimit-Remaining-Requests"] == "0"
        with pytest.raises(RateLimitedError, match="This key may send 1 requests a minute"):
            ada.ask(principal)


def test_keys_of_one_person_used_at_once_keep_within_what_the_person_may(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        ada = Person(db, chat_requests_per_minute=3, chat_person_keys=2)
        keys = [ada.key() for _ in range(12)]

    def ask(key: Principal) -> bool:
        try:
            with transaction(factory) as db:
                usage.take(db, usage.allowances(db, key, ada.settings))
        except RateLimitedError:
            return False
        return True

    assert sum(at_once(*[partial(ask, key) for key in keys])) == 6


def test_headers_of_a_refusal_are_its_own(db: Session) -> None:
    caller = new_id()
    for _ in range(2):
        with pytest.raises(QuotaTooSmallError) as refused:
            take(db, caller, Limits(requests_per_minute=2, tokens_per_day=10), tokens=11, now=NOON)
    assert refused.value.headers["X-RateLimit-Limit-Tokens"] == "10"
    take(db, caller, Limits(requests_per_minute=1, tokens_per_day=0), now=NOON)
    with pytest.raises(RateLimitedError) as other:
        take(db, caller, Limits(requests_per_minute=1, tokens_per_day=0), now=NOON)
    assert set(other.value.headers) == {
        "X-RateLimit-Limit-Requests", "X-RateLimit-Remaining-Requests", "X-RateLimit-Reset-Requests",
    }  # fmt: skip
    assert DomainError("another").headers == {}
