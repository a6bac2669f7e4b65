"""What a caller of the door may use: requests a minute, and tokens a day. Counted in Postgres, one row per caller.

Requests follow GCRA, the leaky bucket as one timestamp: up to a minute's worth may come at once, then one every
``60 / limit`` seconds. Tokens are reserved before a model starts and settled when it has ended, so that requests at
the same moment, in whichever process, cannot pass the quota together; what a killed process had reserved stays used.
"""

import math
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
    """What one caller may use."""

    requests_per_minute: int
    tokens_per_day: int
    """Read and written by models; 0: no limit."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that was let through, and what is left after it."""

    caller_id: UUID
    day: date
    reserved: int
    limits: Limits
    requests_left: int
    seconds_to_full: float
    """Until a whole minute's worth may come at once again."""
    tokens_left: int | None
    """None: no limit."""
    seconds_to_midnight: float

    def headers(self) -> dict[str, str]:
        """As OpenAI's API names them, so that its clients understand."""
        return _headers(
            self.limits, self.requests_left, self.seconds_to_full, self.tokens_left, self.seconds_to_midnight
        )


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
    WHERE greatest(u.allowed_at, (SELECT now FROM t)) + make_interval(secs => :interval)
            <= (SELECT now FROM t) + make_interval(secs => :window)
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


def limits_of(db: Session, principal: Principal, settings: Settings) -> tuple[UUID, Limits]:
    """Whose row counts, and what they may use: the token's own limits before the installation's."""
    token = db.get(ApiToken, principal.token_id) if principal.token_id is not None else None
    return principal.token_id or principal.user_id, Limits(
        (token and token.requests_per_minute) or settings.chat_requests_per_minute,
        (token and token.tokens_per_day) or settings.chat_tokens_per_day,
    )


def take(db: Session, caller_id: UUID, limits: Limits, *, tokens: int = 0, now: datetime | None = None) -> Taken:
    """Let one request through, which may read and write up to ``tokens`` tokens. Commit at once: others wait for it.

    Raises:
        RateLimitedError, QuotaUsedUpError: nothing was written; each says when to try again.
        QuotaTooSmallError: nothing was written, and trying again never helps.
    """
    interval = WINDOW_SECONDS / limits.requests_per_minute
    values: dict[str, Any] = {
        "caller": caller_id,
        "now": now,
        "interval": interval,
        "window": WINDOW_SECONDS + interval / 2,  # half a step of grace against rounding
        "tokens": tokens,
        "quota": limits.tokens_per_day,
    }
    fits = not limits.tokens_per_day or tokens <= limits.tokens_per_day
    row = db.execute(_TAKE, values).one_or_none() if fits else None
    if row is None:
        raise _refusal(db, caller_id, limits, tokens, values)
    busy = (row.allowed_at - row.now).total_seconds()
    return Taken(
        caller_id=caller_id,
        day=row.day,
        reserved=tokens,
        limits=limits,
        requests_left=max(0, math.floor((WINDOW_SECONDS - busy) / interval + 0.5)),
        seconds_to_full=busy,
        tokens_left=max(0, limits.tokens_per_day - row.day_tokens) if limits.tokens_per_day else None,
        seconds_to_midnight=_seconds_to_midnight(row.now),
    )


def settle(db: Session, taken: Taken, used: int) -> None:
    """Count what was really read and written in place of what was reserved."""
    if used != taken.reserved:
        db.execute(_SETTLE, {"caller": taken.caller_id, "day": taken.day, "more": used - taken.reserved})


def _refusal(db: Session, caller_id: UUID, limits: Limits, tokens: int, values: dict[str, Any]) -> DomainError:
    row = db.execute(_READ, {"caller": caller_id, "now": values["now"]}).one_or_none()
    interval = values["interval"]
    busy = max(0.0, (row.allowed_at - row.now).total_seconds()) if row else 0.0
    wait = busy + interval - values["window"]
    used = row.day_tokens if row and row.day == row.now.date() else 0
    midnight = _seconds_to_midnight(row.now) if row else 86_400.0
    left = max(0, limits.tokens_per_day - used) if limits.tokens_per_day else None
    error: DomainError
    if wait > 0:
        error = RateLimitedError(
            _(
                "This key may send %(requests_per_minute)s requests a minute, and has.",
                requests_per_minute=limits.requests_per_minute,
            ),
            mend=_("Wait %(wait)s s. An admin of the installation can raise the limit.", wait=max(1, math.ceil(wait))),
            retry_after_seconds=max(1, math.ceil(wait)),
        )
    elif limits.tokens_per_day and tokens > limits.tokens_per_day:
        error = QuotaTooSmallError(
            _(
                "This key may use %(tokens_per_day)s tokens a day, and this request alone may take %(tokens)s.",
                tokens_per_day=Figure(limits.tokens_per_day),
                tokens=Figure(tokens),
            ),
            mend=_("Ask for fewer with max_tokens or n, or shorten the conversation. An admin can raise the quota."),
        )
    else:
        error = QuotaUsedUpError(
            _(
                "This key may use %(tokens_per_day)s tokens a day; %(left)s are left, and this "
                "request may take %(tokens)s.",
                tokens_per_day=Figure(limits.tokens_per_day),
                left=Figure(left or 0),
                tokens=Figure(tokens),
            ),
            mend=_("Ask for fewer with max_tokens, or wait until midnight UTC. An admin can raise the quota."),
            retry_after_seconds=max(1, math.ceil(midnight)),
        )
    error.headers = _headers(limits, max(0, math.floor((WINDOW_SECONDS - busy) / interval + 0.5)), busy, left, midnight)
    return error


def _seconds_to_midnight(now: datetime) -> float:
    at = now.astimezone(now.tzinfo)
    midnight = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - at).total_seconds()


def _headers(
    limits: Limits, requests_left: int, seconds_to_full: float, tokens_left: int | None, seconds_to_midnight: float
) -> dict[str, str]:
    headers = {
        "X-RateLimit-Limit-Requests": str(limits.requests_per_minute),
        "X-RateLimit-Remaining-Requests": str(requests_left),
        "X-RateLimit-Reset-Requests": f"{max(0.0, seconds_to_full):.2f}s",
    }
    if tokens_left is not None:
        headers |= {
            "X-RateLimit-Limit-Tokens": str(limits.tokens_per_day),
            "X-RateLimit-Remaining-Tokens": str(tokens_left),
            "X-RateLimit-Reset-Tokens": f"{seconds_to_midnight:.0f}s",
        }
    return headers
