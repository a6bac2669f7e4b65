"""Clearing up after rounds that ended while nobody held them."""

from uuid import UUID

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Round, RoundEvent
from worker.about import project_lines
from worker.context import Context
from worker.rounds.job import forget


def sweep(context: Context) -> int:
    """Remove what cancelled and finished rounds left half done; how many were cleared.

    A failed round keeps everything, for it may be tried again. Safe beside running workers: an ended round has no
    holder, and never gets one again.
    """
    cleared = 0
    for path in list(context.settings.jobs_dir.glob("*/attempt-*")):
        round_id = _id(path.parent.name)
        if round_id is None:
            continue
        with transaction(context.factory) as db:
            round_ = db.get(Round, round_id)
            claims = select(RoundEvent.data["token"].astext).where(
                RoundEvent.round_id == round_id, RoundEvent.kind == "claimed"
            )
            tokens = [UUID(token) for token in db.scalars(claims)]
        if round_ is not None and round_.state in ("done", "cancelled") and path.exists():
            with project_lines(context.factory, round_.project_id, round=str(round_id)):
                forget(context, round_id, tokens)
            cleared += 1
    return cleared


def _id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None
