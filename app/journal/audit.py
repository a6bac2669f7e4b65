"""Who did what: one row for every act that changes settings, people, versions or rounds."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.tables import AuditEntry


def record(
    db: Session, *, actor_id: UUID | None, project_id: UUID | None, action: str, subject: str, **data: Any
) -> AuditEntry:
    """Write down an act, in the transaction that does it.

    Args:
        actor_id: the person; None where the system itself acted.
        action: noun and verb, 'version.promote'.
        subject: what it was done to, a kind and an id: 'version:0193…'.
        data: JSON-ready particulars.
    """
    entry = AuditEntry(actor_id=actor_id, project_id=project_id, action=action, subject=subject, data=data)
    db.add(entry)
    db.flush()
    return entry
