"""What may be used of the door: requests a minute, and tokens a day. Counted in Postgres, one row per key or person.

A request by a key is let through if the key has enough left, and its owner, whose keys count together: a hundred keys
are not a hundred times the limit. A key to which an admin gave a limit of its own counts by itself, up to that one.

Requests follow GCRA, the leaky bucket as one timestamp: up to a minute's worth may come at once, then one every
``60 / limit`` seconds. Tokens are reserved before a model starts and settled when it has ended, so that requests at
the same moment, in whichever process, cannot pass the quota together; what a killed process had reserved stays used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session
from sqlalchemy.types import DateTime

from app.accounts.principal import Principal
from app.db.tables import ApiToken
from app.errors import DomainError, InvalidError
from app.language import _
from app.language.figures import Figure
from app.settings import Settings

WINDOW_SECONDS = 60.0


class RateLimitedError(DomainError):
    """Too many requests within a minute."""

    code = "rate_limit_exceeded"
    status = 429
    title = _("Too many requests")


class QuotaUsedUpError(DomainError):
    """The day's tokens are used up, or what is left is less than the request may take."""

    code = "quota_exceeded"
    status = 429
    title = _("The day's quota is used up")


class QuotaTooSmallError(InvalidError):
    """One request may take more tokens than a whole day has: waiting does not help."""

    code = "quota_too_small"
    title = _("More than a day's quota")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used; 0: no limit, and what is used is not counted."""

    requests_per_minute: int
    tokens_per_day: int
    """Read and written by models."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One of the limits that a request has to keep within."""

    caller_id: UUID
    """Of a key, or of a person."""
    limits: Limits
    of_person: bool = False
    """Of what one person uses with all their keys, and in the playground."""


@dataclass(frozen=True, slots=True)
class Share:
    """An allowance after a request that was let through."""

    allowance: Allowance
    day: date
    reserved: int
    requests_left: int
    seconds_to_full: float
    """Until a whole minute's worth may come at once again."""
    tokens_left: int
    seconds_to_midnight: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that was let through, and what is left after it."""

    shares: tuple[Share, ...]

    def headers(self) -> dict[str, str]:
        """As OpenAI's API names them, so that its clients understand. Of key and person, that which has less left."""
        headers: dict[str, str] = {}
        by_requests = [share for share in self.shares if share.allowance.limits.requests_per_minute]
        if by_requests:
            tight = min(by_requests, key=lambda share: share.requests_left)
            headers |= _request_headers(tight.allowance.limits, tight.requests_left, tight.seconds_to_full)
        by_tokens = [share for share in self.shares if share.allowance.limits.tokens_per_day]
        if by_tokens:
            tight = min(by_tokens, key=lambda share: share.tokens_left)
            headers |= _token_headers(tight.allowance.limits, tight.tokens_left, tight.seconds_to_midnight)
        return headers


# One statement decides and writes, so that no two requests are let through by the same allowance. Nothing comes back
# when the row refuses.
_TAKE = text("""
    WITH t AS (SELECT coalesce(:now, clock_timestamp()) AS now)
    INSERT INTO api_usage AS u (caller_id, allowed_at, day, day_tokens)
    SELECT :caller, t.now + make_interval(secs => :interval), (t.now AT TIME ZONE 'UTC')::date, :tokens FROM t
    ON CONFLICT (caller_id) DO UPDATE
    SET allowed_at = greatest(u.allowed_at, (SELECT now FROM t)) + make_interval(secs => :interval),
        day = excluded.day,
        day_tokens = CASE WHEN u.day = excluded.day THEN u.day_tokens ELSE 0 END + :tokens
    WHERE (:interval = 0 OR greatest(u.allowed_at, (SELECT now FROM t)) + make_interval(secs => :interval)
            <= (SELECT now FROM t) + make_interval(secs => :window))
      AND (:quota = 0 OR CASE WHEN u.day = excluded.day THEN u.day_tokens ELSE 0 END + :tokens <= :quota)
    RETURNING u.allowed_at, u.day, u.day_tokens, (SELECT now FROM t) AS now
""").bindparams(bindparam("now", type_=DateTime(timezone=True)), bindparam("caller", type_=PG_UUID))

_READ = text("""
    SELECT allowed_at, day, day_tokens, coalesce(:now, clock_timestamp()) AS now
    FROM api_usage WHERE caller_id = :caller
""").bindparams(bindparam("now", type_=DateTime(timezone=True)), bindparam("caller", type_=PG_UUID))

_SETTLE = text("""
    UPDATE api_usage SET day_tokens = greatest(0, day_tokens + :more) WHERE caller_id = :caller AND day = :day
""").bindparams(bindparam("caller", type_=PG_UUID))


def allowances(db: Session, principal: Principal, settings: Settings) -> list[Allowance]:
    """What a request has to keep within: the key's own limits or the installation's, and the person's."""
    share = settings.chat_person_keys
    together = Limits(share * settings.chat_requests_per_minute, share * settings.chat_tokens_per_day)
    token = db.get(ApiToken, principal.token_id) if principal.token_id is not None else None
    if token is None:  # in a browser: as with a key, and together with the keys
        alone = Limits(settings.chat_requests_per_minute, settings.chat_tokens_per_day)
        return [Allowance(principal.user_id, together if share else alone, of_person=bool(share))]
    own = Limits(
        token.requests_per_minute or settings.chat_requests_per_minute,
        token.tokens_per_day or settings.chat_tokens_per_day,
    )
    found = [Allowance(token.id, own)]
    shared = Limits(
        0 if token.requests_per_minute else together.requests_per_minute,
        0 if token.tokens_per_day else together.tokens_per_day,
    )
    if shared.requests_per_minute or shared.tokens_per_day:
        found.append(Allowance(principal.user_id, shared, of_person=True))
    return found


def take(db: Session, allowed: Sequence[Allowance], *, tokens: int = 0, now: datetime | None = None) -> Taken:
    """Let one request through, which may read and write up to ``tokens`` tokens. Commit at once: others wait for it.

    Raises:
        RateLimitedError, QuotaUsedUpError: nothing was written; each says when to try again.
        QuotaTooSmallError: nothing was written, and trying again never helps.
    """
    with db.begin_nested():
        return Taken(tuple(_share(db, allowance, tokens, now) for allowance in allowed))


def settle(db: Session, taken: Taken, used: int) -> None:
    """Count what was really read and written in place of what was reserved."""
    for share in taken.shares:
        if share.allowance.limits.tokens_per_day and used != share.reserved:
            more = used - share.reserved
            db.execute(_SETTLE, {"caller": share.allowance.caller_id, "day": share.day, "more": more})


def _share(db: Session, allowance: Allowance, tokens: int, now: datetime | None) -> Share:
    limits = allowance.limits
    interval = WINDOW_SECONDS / limits.requests_per_minute if limits.requests_per_minute else 0.0
    reserved = tokens if limits.tokens_per_day else 0
    values: dict[str, Any] = {
        "caller": allowance.caller_id,
        "now": now,
        "interval": interval,
        "window": WINDOW_SECONDS + interval / 2,  # half a step of grace against rounding
        "tokens": reserved,
        "quota": limits.tokens_per_day,
    }
    row = db.execute(_TAKE, values).one_or_none() if reserved <= limits.tokens_per_day else None
    if row is None:
        raise _refusal(db, allowance, tokens, values)
    busy = (row.allowed_at - row.now).total_seconds()
    return Share(
        allowance=allowance,
        day=row.day,
        reserved=reserved,
        requests_left=_requests_left(busy, interval),
        seconds_to_full=busy,
        tokens_left=max(0, limits.tokens_per_day - row.day_tokens),
        seconds_to_midnight=_seconds_to_midnight(row.now),
    )


def _refusal(db: Session, allowance: Allowance, tokens: int, values: dict[str, Any]) -> DomainError:
    row = db.execute(_READ, {"caller": allowance.caller_id, "now": values["now"]}).one_or_none()
    limits, interval = allowance.limits, values["interval"]
    busy = max(0.0, (row.allowed_at - row.now).total_seconds()) if row else 0.0
    wait = busy + interval - values["window"] if interval else 0.0
    used = row.day_tokens if row and row.day == row.now.date() else 0
    midnight = _seconds_to_midnight(row.now) if row else 86_400.0
    left = max(0, limits.tokens_per_day - used)
    error: DomainError
    if wait > 0 or not limits.tokens_per_day:
        error = RateLimitedError(
            _(
                "You may send %(requests_per_minute)s requests a minute, in the playground and with all your keys "
                "together, and have.",
                requests_per_minute=limits.requests_per_minute,
            )
            if allowance.of_person
            else _(
                "This key may send %(requests_per_minute)s requests a minute, and has.",
                requests_per_minute=limits.requests_per_minute,
            ),
            mend=_("Wait %(wait)s s. An admin of the installation can raise the limit.", wait=max(1, math.ceil(wait))),
            retry_after_seconds=max(1, math.ceil(wait)),
        )
    elif tokens > limits.tokens_per_day:
        figures = {"tokens_per_day": Figure(limits.tokens_per_day), "tokens": Figure(tokens)}
        error = QuotaTooSmallError(
            _(
                "You may use %(tokens_per_day)s tokens a day, in the playground and with all your keys together, and "
                "this request alone may take %(tokens)s.",
                **figures,
            )
            if allowance.of_person
            else _(
                "This key may use %(tokens_per_day)s tokens a day, and this request alone may take %(tokens)s.",
                **figures,
            ),
            mend=_("Ask for fewer with max_tokens or n, or shorten the conversation. An admin can raise the quota."),
        )
    else:
        figures = {"tokens_per_day": Figure(limits.tokens_per_day), "left": Figure(left), "tokens": Figure(tokens)}
        error = QuotaUsedUpError(
            _(
                "You may use %(tokens_per_day)s tokens a day, in the playground and with all your keys together; "
                "%(left)s are left, and this request may take %(tokens)s.",
                **figures,
            )
            if allowance.of_person
            else _(
                "This key may use %(tokens_per_day)s tokens a day; %(left)s are left, and this "
                "request may take %(tokens)s.",
                **figures,
            ),
            mend=_("Ask for fewer with max_tokens, or wait until midnight UTC. An admin can raise the quota."),
            retry_after_seconds=max(1, math.ceil(midnight)),
        )
    of_requests = _request_headers(limits, _requests_left(busy, interval), busy) if interval else {}
    error.headers = of_requests | (_token_headers(limits, left, midnight) if limits.tokens_per_day else {})
    return error


def _requests_left(busy: float, interval: float) -> int:
    return max(0, math.floor((WINDOW_SECONDS - busy) / interval + 0.5)) if interval else 0


def _seconds_to_midnight(now: datetime) -> float:
    at = now.astimezone(now.tzinfo)
    midnight = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - at).total_seconds()


def _request_headers(limits: Limits, left: int, seconds_to_full: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit-Requests": str(limits.requests_per_minute),
        "X-RateLimit-Remaining-Requests": str(left),
        "X-RateLimit-Reset-Requests": f"{max(0.0, seconds_to_full):.2f}s",
    }


def _token_headers(limits: Limits, left: int, seconds_to_midnight: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit-Tokens": str(limits.tokens_per_day),
        "X-RateLimit-Remaining-Tokens": str(left),
        "X-RateLimit-Reset-Tokens": f"{seconds_to_midnight:.0f}s",
    }
