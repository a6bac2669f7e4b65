"""What reviewers are told and asked, as it changes: every text is kept, and so is who has read which.

Guidelines and reviewing settings are numbered together, for a reviewer has to know both. The present ones are the
project's own columns; what they replaced, and they themselves once they have replaced something, are ``Guidelines``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Guidelines, GuidelinesRead, Project
from app.projects import asked
from app.projects.reviewing import reviewing_of

ACTIVE_DAYS = 30
"""Whoever has judged a pair within so many days is an active reviewer."""


@dataclass(frozen=True, slots=True)
class News:
    """What has changed since a reviewer last read it."""

    number: int
    """Of the present guidelines."""
    changed_at: datetime
    before: str
    now: str
    asked: tuple[tuple[str, str, str], ...]
    """What is asked otherwise: a setting's name, how it was, how it is."""

    @property
    def of_text(self) -> bool:
        """Whether the guidelines themselves have changed, and not only what is asked."""
        return self.before != self.now


@dataclass(frozen=True, slots=True)
class Readers:
    """The active reviewers of a project."""

    read: int
    """Those who have the present guidelines before them, or said that they have read them."""
    unread: tuple[str, ...]
    """The others, by name or address."""
    changed_at: datetime | None
    """When what they are to read became so; null: it never changed."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.read + len(self.unread)


def keep(db: Session, project: Project, before: Mapping[str, Any], *, actor: UUID | None) -> None:
    """Number what ``project`` says now, and keep it beside what it said ``before`` (``guidelines``, ``reviewing``).

    Whoever wrote it has read it.
    """
    number = db.scalars(
        update(Project)
        .where(Project.id == project.id)
        .values(guidelines_number=Project.guidelines_number + 1)
        .returning(Project.guidelines_number)
        .execution_options(synchronize_session=False)
    ).one()
    db.refresh(project, ["guidelines_number"])
    values = [
        {"number": number - 1, "text": before["guidelines"], "reviewing": before["reviewing"]},
        {"number": number, "text": project.guidelines, "reviewing": project.reviewing},
    ]
    for row, at in zip(values, (project.created_at, utcnow()), strict=True):
        db.execute(insert(Guidelines).values(project_id=project.id, created_at=at, **row).on_conflict_do_nothing())
    if actor is not None:
        read(db, project, actor, number)


def news(db: Session, project: Project, reviewer_id: UUID) -> News | None:
    """What a reviewer who opens the page is to be told; null where they know it, or have never seen anything older.

    Who opens it for the first time has the present guidelines before them from then on.
    """
    known = select(GuidelinesRead.number).where(
        GuidelinesRead.project_id == project.id, GuidelinesRead.reviewer_id == reviewer_id
    )
    last = db.scalar(known)
    if last is None:
        row = {"project_id": project.id, "reviewer_id": reviewer_id, "number": project.guidelines_number}
        db.execute(insert(GuidelinesRead).values(**row).on_conflict_do_nothing())
    if last is None or last == project.guidelines_number:
        return None
    then, since = (db.get(Guidelines, (project.id, number)) for number in (last, project.guidelines_number))
    if then is None or since is None:
        return None
    changes = asked.changes(reviewing_of(then.reviewing), reviewing_of(since.reviewing))
    if then.text == since.text and not changes:  # it is again as they know it
        read(db, project, reviewer_id, since.number)
        return None
    return News(since.number, since.created_at, then.text, since.text, changes)


def read(db: Session, project: Project, reviewer_id: UUID, number: int) -> None:
    """A reviewer who knew older guidelines has read those of this number, and is not told of them again."""
    db.execute(
        update(GuidelinesRead)
        .where(
            GuidelinesRead.project_id == project.id,
            GuidelinesRead.reviewer_id == reviewer_id,
            GuidelinesRead.number < func.least(number, project.guidelines_number),
        )
        .values(number=func.least(number, project.guidelines_number), read_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


_ACTIVE = text("""
    SELECT coalesce(nullif(u.name, ''), u.email) AS who, r.number IS NOT DISTINCT FROM :number AS read
    FROM users u
    LEFT JOIN guidelines_read r ON r.reviewer_id = u.id AND r.project_id = :project
    WHERE u.is_active AND u.id IN (
      SELECT v.reviewer_id FROM votes v
      WHERE v.project_id = :project AND v.created_at >= :since AND v.source <> 'feedback')
    ORDER BY who
""")


def readers(db: Session, project: Project) -> Readers:
    """Who of those who judge at present has read the present guidelines."""
    number = project.guidelines_number
    values = {"project": project.id, "number": number, "since": utcnow() - timedelta(days=ACTIVE_DAYS)}
    people = db.execute(_ACTIVE, values).all()
    present = db.get(Guidelines, (project.id, number))
    return Readers(
        read=sum(person.read for person in people),
        unread=tuple(person.who for person in people if not person.read),
        changed_at=present.created_at if present else None,
    )
