"""What a worker may do to a round, and only while it holds the round's token.

Every statement here names the token it was claimed with (and the state it starts from) in its WHERE, and looks at the
number of rows: a worker that was taken for dead and comes back changes nothing, and learns so from LeaseLostError.
Times are the database's, so that workers on machines with different clocks agree on who is late.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.db.ids import new_id
from app.db.tables import Project, Round, RoundEvent
from app.rounds import events, thawing
from app.rounds.errors import LeaseLostError
from app.rounds.states import ACTIVE, NEXT, State
from app.settings import Settings

MAX_TAKEOVERS = 5
"""A round whose workers died this often without its being retried by a person is failed instead of tried again."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A round in a worker's hands."""

    round: Round
    token: UUID
    """Names the attempt too: its folder in the job directory, and the version it publishes."""
    earlier: list[UUID]
    """Tokens of the attempts before this one, oldest first."""
    takeovers: int
    """How often a worker has lost it since somebody last asked for it."""

    @property
    def worn_out(self) -> bool:
        """Its workers died too often: trying again would take this one down too."""
        return self.takeovers >= MAX_TAKEOVERS


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat."""

    cancel_requested: bool


def claim(db: Session, *, settings: Settings) -> Claimed | None:
    """Take the oldest active round that no living worker holds, whatever its state; None when there is none.

    Several workers may call at once: each gets another round. The caller works until ``finish`` or ``release``.
    """
    now = func.clock_timestamp()
    unheld = or_(Round.lease_token.is_(None), Round.lease_expires_at < now)
    row = db.execute(
        select(Round.id, Round.state, Round.lease_token)
        .join(Project, and_(Project.id == Round.project_id, Project.archived_at.is_(None)))
        .where(Round.state.in_(ACTIVE), unheld)
        .order_by(Round.created_at, Round.id)
        .limit(1)
        .with_for_update(of=Round, skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    token = new_id()
    claimed = db.scalars(
        update(Round)
        .where(Round.id == row.id, Round.state == row.state, Round.lease_token.is_not_distinct_from(row.lease_token))
        .values(
            lease_token=token,
            lease_expires_at=now + timedelta(seconds=settings.round_lease_seconds),
            attempt=Round.attempt + 1,
            started_at=func.coalesce(Round.started_at, now),
        )
        .returning(Round),
        execution_options={"populate_existing": True},
    ).one()
    earlier = _earlier_tokens(db, row.id)
    if row.lease_token is not None:
        events.add(db, row.id, "lease_lost", token=str(row.lease_token))
    events.add(db, row.id, "claimed", token=str(token), attempt=claimed.attempt)
    return Claimed(claimed, token, earlier, _takeovers(db, row.id))


def heartbeat(db: Session, round_id: UUID, token: UUID, *, settings: Settings) -> Beat:
    """Keep the round for another ``round_lease_seconds``.

    Raises:
        LeaseLostError: stop at once; another worker holds the round, or it has ended.
    """
    expires = func.clock_timestamp() + timedelta(seconds=settings.round_lease_seconds)
    row = db.execute(
        _held(round_id, token).values(lease_expires_at=expires).returning(Round.cancel_requested_at)
    ).one_or_none()
    if row is None:
        raise LeaseLostError(round_id, token)
    return Beat(cancel_requested=row.cancel_requested_at is not None)


def record_progress(db: Session, round_id: UUID, token: UUID, progress: dict[str, Any]) -> None:
    """Show the trainer's latest figures. Raises LeaseLostError."""
    _changed(db.execute(_held(round_id, token).values(progress=progress)), round_id, token)


def advance(
    db: Session, round_id: UUID, token: UUID, from_state: State, to_state: State, /, *, note: str = "", **columns: Any
) -> None:
    """Move the round on, with other ``columns`` of it in the same statement.

    Raises:
        LeaseLostError: it is not in ``from_state`` any more, or not held with ``token``.
        ValueError: a round never goes from the one state to the other.
    """
    if to_state not in NEXT[from_state]:
        raise ValueError(f"a round does not go from {from_state} to {to_state}; it may go to {NEXT[from_state]}")
    if to_state not in ACTIVE:
        columns |= {"lease_token": None, "lease_expires_at": None, "finished_at": func.clock_timestamp()}
    change = _held(round_id, token).where(Round.state == from_state).values(state=to_state, **columns)
    _changed(db.execute(change), round_id, token)
    events.add(db, round_id, "state", from_state=from_state, to_state=to_state, **({"note": note} if note else {}))


def fail(db: Session, round_id: UUID, token: UUID, *, code: str, message: str, log_tail: str | None = None) -> None:
    """End the round: what went wrong and what to do about it. It can be retried, and its votes are new again.

    Raises LeaseLostError.
    """
    state = lock(db, round_id, token)
    advance(db, round_id, token, state, "failed", note=code, error_code=code, error=message, log_tail=log_tail)
    thawing.let_go(db, round_id)


def end_cancelled(db: Session, round_id: UUID, token: UUID) -> None:
    """End the round as its admin asked; its votes are new again. Raises LeaseLostError."""
    advance(db, round_id, token, lock(db, round_id, token), "cancelled")
    thawing.let_go(db, round_id)


def release(db: Session, round_id: UUID, token: UUID, *, reason: str) -> None:
    """Give the round back as it is, to be claimed again at once. Raises LeaseLostError."""
    _changed(db.execute(_held(round_id, token).values(lease_token=None, lease_expires_at=None)), round_id, token)
    events.add(db, round_id, "released", token=str(token), reason=reason)


def note(db: Session, round_id: UUID, token: UUID, text: str, **data: Any) -> None:
    """Leave a remark in the round's history. Raises LeaseLostError."""
    lock(db, round_id, token)
    events.add(db, round_id, "note", text=text, **data)


def _held(round_id: UUID, token: UUID) -> Any:
    """An UPDATE of the round, if it is active and held with ``token``."""
    return (
        update(Round)
        .where(Round.id == round_id, Round.lease_token == token, Round.state.in_(ACTIVE))
        .execution_options(synchronize_session=False)
    )


def _changed(result: object, round_id: UUID, token: UUID) -> None:
    if cast("CursorResult[Any]", result).rowcount != 1:
        raise LeaseLostError(round_id, token)


def lock(db: Session, round_id: UUID, token: UUID) -> State:
    """The state of the round, locked until the end of the transaction. Raises LeaseLostError."""
    held = select(Round.state).where(Round.id == round_id, Round.lease_token == token, Round.state.in_(ACTIVE))
    state = db.scalar(held.with_for_update())
    if state is None:
        raise LeaseLostError(round_id, token)
    return cast("State", state)


def _earlier_tokens(db: Session, round_id: UUID) -> list[UUID]:
    claims = select(RoundEvent.data["token"].astext).where(
        RoundEvent.round_id == round_id, RoundEvent.kind == "claimed"
    )
    return [UUID(token) for token in db.scalars(claims.order_by(RoundEvent.at, RoundEvent.id)) if token]


def _takeovers(db: Session, round_id: UUID) -> int:
    last_retry = (
        select(func.max(RoundEvent.at))
        .where(RoundEvent.round_id == round_id, RoundEvent.kind == "retry")
        .scalar_subquery()
    )
    lost = select(func.count()).where(
        RoundEvent.round_id == round_id,
        RoundEvent.kind == "lease_lost",
        RoundEvent.at > func.coalesce(last_retry, func.to_timestamp(0)),
    )
    return db.scalar(lost) or 0
