"""Limits of the door: a burst, then a steady rate; a day's tokens; exact however many processes count."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.usage import Limits, QuotaTooSmallError, QuotaUsedUpError, RateLimitedError, Taken, settle, take
from app.db.ids import new_id
from app.db.session import make_session_factory, transaction
from app.errors import DomainError
from tests.factories.threads import at_once

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SIX_A_MINUTE = Limits(requests_per_minute=6, tokens_per_day=0)


def test_a_minutes_worth_at_once_then_one_for_each_step(db: Session) -> None:
    caller = new_id()
    left = [take(db, caller, SIX_A_MINUTE, now=NOON).requests_left for _ in range(6)]
    assert left == [5, 4, 3, 2, 1, 0]
    with pytest.raises(RateLimitedError) as refused:
        take(db, caller, SIX_A_MINUTE, now=NOON)
    assert 1 <= refused.value.extra["retry_after_seconds"] <= 10
    assert refused.value.headers["X-RateLimit-Remaining-Requests"] == "0"
    assert take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(seconds=10)).requests_left == 0
    with pytest.raises(RateLimitedError):
        take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(seconds=11))
    assert take(db, new_id(), SIX_A_MINUTE, now=NOON).requests_left == 5, "another caller has a row of their own"
    assert take(db, caller, SIX_A_MINUTE, now=NOON + timedelta(minutes=5)).requests_left == 5


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
    assert first.tokens_left == 400
    with pytest.raises(QuotaUsedUpError) as refused:
        take(db, caller, limits, tokens=500, now=NOON)
    assert refused.value.extra["retry_after_seconds"] == 12 * 3600
    assert refused.value.headers["X-RateLimit-Remaining-Tokens"] == "400"
    settle(db, first, 100)
    assert take(db, caller, limits, tokens=500, now=NOON).tokens_left == 400
    with pytest.raises(QuotaTooSmallError):  # which no day will change
        take(db, caller, limits, tokens=1001, now=NOON + timedelta(days=1))
    assert take(db, caller, limits, tokens=1000, now=NOON + timedelta(days=1)).tokens_left == 0
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
