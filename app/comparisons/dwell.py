"""How long a pair was looked at: as measured where it was shown, and never longer than it was handed out.

Looks at pairs that are in hand at the same time do not overlap: a judgement takes the project's shortest look off the
time that its reviewer had, as early as that can have been, and what is judged next needs as long after it. Whoever
reads one pair after the other has had that time, however late or close together the choices arrive; so the page,
where the next pair waits behind the one that is read, never notices.
"""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons.errors import VoteTooFastError
from app.comparisons.records import COUNTED, Ballot
from app.db.direct import Direct

# One statement decides and writes, so that of two judgements at the same moment one waits for the other.
_LOOK = Direct(
    text("""
    INSERT INTO looks AS l (reviewer_id, until) VALUES (:reviewer, :since + make_interval(secs => :seconds))
    ON CONFLICT (reviewer_id) DO UPDATE SET until = greatest(l.until, :since) + make_interval(secs => :seconds)
    WHERE greatest(l.until, :since) + make_interval(secs => :seconds) <= :now
    RETURNING until
""").bindparams(
        bindparam("reviewer", type_=PG_UUID),
        bindparam("since", type_=DateTime(timezone=True)),
        bindparam("now", type_=DateTime(timezone=True)),
    )
)
_UNTIL = Direct(
    text("SELECT until FROM looks WHERE reviewer_id = :reviewer").bindparams(bindparam("reviewer", type_=PG_UUID))
)


def measured(ballot: Ballot, *, shown_at: datetime, now: datetime) -> Ballot:
    """The ballot with a time that can be true: nobody looked longer than since ``shown_at``."""
    if ballot.seconds is None:
        return ballot
    return replace(ballot, seconds=min(ballot.seconds, max(0.0, (now - shown_at).total_seconds())))


def require_dwell(
    db: Session,
    ballot: Ballot,
    *,
    reviewer_id: UUID,
    handed_out_at: datetime,
    shown_at: datetime,
    now: datetime,
    min_seconds: float,
) -> None:
    """Refuse a judgement that came too soon; skips and flags may come at once.

    The page says how long the pair was visible: it knows, where the server learns late of what was shown. Who does not
    say is taken to have looked since ``shown_at``.

    Raises:
        VoteTooFastError: with both times.
    """
    if not min_seconds or ballot.choice not in COUNTED:
        return
    since = shown_at if ballot.seconds is None else handed_out_at
    looked = (now - since).total_seconds()
    if ballot.seconds is not None:
        looked = min(ballot.seconds, looked)
    if looked < min_seconds:
        raise VoteTooFastError(looked, min_seconds)
    values = {"reviewer": reviewer_id, "since": handed_out_at, "seconds": min_seconds, "now": now}
    if _LOOK.first(db, values) is None:
        until: datetime = _UNTIL.value(db, values)
        raise VoteTooFastError(max(0.0, (now - max(until, handed_out_at)).total_seconds()), min_seconds)
