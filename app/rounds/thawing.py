"""Votes of a round that made no version: let go when it ends, and frozen again when it is tried again."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import Round, RoundEvent
from app.preferences import service as preferences
from app.rounds.errors import VotesChangedError


def let_go(db: Session, round_id: UUID) -> None:
    """Thaw what the round froze, as it ended without a version.

    A project has one active round at a time. So whatever was frozen in it since this one was asked for, or asked for
    again, was frozen by this one; and what earlier rounds learned from stays frozen.
    """
    round_ = db.execute(
        select(Round.project_id, Round.created_at, Round.snapshot_hash).where(Round.id == round_id)
    ).one()
    if round_.snapshot_hash is None:
        return
    asked = db.scalar(
        select(func.max(RoundEvent.at)).where(RoundEvent.round_id == round_id, RoundEvent.to_state == "queued")
    )
    preferences.thaw(db, round_.project_id, asked or round_.created_at)


def take_up(db: Session, round_: Round) -> None:
    """Freeze the votes of its snapshot again, which is what it trains on; nothing, where it has none.

    Raises:
        VotesChangedError: some of them are not what they were.
    """
    changed = preferences.freeze_again(db, round_)
    if changed:
        raise VotesChangedError(round_.number, changed)
