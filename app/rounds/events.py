"""The history of a round: one row for whatever happened to it."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.tables import RoundEvent
from app.rounds.states import State


def add(
    db: Session,
    round_id: UUID,
    kind: str,
    *,
    from_state: State | str | None = None,
    to_state: State | str | None = None,
    **data: Any,
) -> RoundEvent:
    """Write down an event: 'state', 'claimed', 'released', 'lease_lost', 'retry', 'cancel_requested' or 'note'."""
    event = RoundEvent(round_id=round_id, kind=kind, from_state=from_state, to_state=to_state, data=data)
    db.add(event)
    db.flush()
    return event
