"""The audit log as people read it: who did what, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import AuditEntry, Project, User


@dataclass(frozen=True, slots=True)
class Line:
    """One act."""

    id: UUID
    at: datetime
    who: str | None
    """Name or address; None where the system itself acted."""
    project: str | None
    """Slug."""
    action: str
    subject: str
    data: dict[str, Any]


def lines(
    db: Session, *, project_id: UUID | None, kind: str | None = None, after: UUID | None = None, limit: int = 50
) -> Sequence[Line]:
    """Acts in one project, or with ``project_id`` None everywhere.

    Args:
        kind: what an act is about, the first word of its ``action``; None: all.
        after: the last line of the page before.
    """
    query = (
        select(AuditEntry, User.name, User.email, Project.slug)
        .outerjoin(User, User.id == AuditEntry.actor_id)
        .outerjoin(Project, Project.id == AuditEntry.project_id)
        .order_by(AuditEntry.id.desc())
        .limit(limit)
    )
    if project_id is not None:
        query = query.where(AuditEntry.project_id == project_id)
    if kind is not None:
        query = query.where(AuditEntry.action.startswith(f"{kind}.", autoescape=True))
    if after is not None:
        query = query.where(AuditEntry.id < after)
    return [
        Line(entry.id, entry.at, name or email, slug, entry.action, entry.subject, dict(entry.data))
        for entry, name, email, slug in db.execute(query)
    ]
