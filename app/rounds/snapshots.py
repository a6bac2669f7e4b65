"""Freezing what a round reads, by the worker that holds it."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.db.tables import Round
from app.preferences.service import Frozen, freeze
from app.rounds import leases


def prepare(db: Session, round_: Round, token: UUID) -> Frozen:
    """Freeze the snapshot and move the round from queued to preparing, in the caller's transaction.

    Raises:
        LeaseLostError: nothing was frozen.
    """
    # The row is locked before anything is written: a worker that lost the round waits here, and then fails.
    leases.lock(db, round_.id, token)
    frozen = freeze(db, round_)
    leases.advance(db, round_.id, token, "queued", "preparing", snapshot_hash=frozen.hash, counts=frozen.counts)
    return frozen
