"""Putting a project aside, and taking it back: nothing comes in or is made meanwhile, and nothing is lost."""

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project
from app.journal import audit, outbox
from app.journal.queues import REFILL
from app.projects import schedule
from app.rounds.requests import refuse_second


def archive(db: Session, project: Project, *, actor: UUID | None = None) -> Project:
    """Put the project aside. Twice is once.

    Raises:
        RoundAlreadyActiveError: a round has not ended yet.
    """
    db.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))  # as rounds do
    refuse_second(db, project)
    if _set(db, project, archived=True):
        _record(db, project, actor, "project.archive")
    return project


def restore(db: Session, project: Project, *, actor: UUID | None = None) -> Project:
    """Take the project back into use: pairs are made again, and rounds come at the next time of its schedule."""
    if _set(db, project, archived=False):
        if project.round_schedule is not None:
            project.next_round_at = schedule.next_time(project.round_schedule, utcnow())
            db.flush()
        outbox.enqueue(db, REFILL, str(project.id))
        _record(db, project, actor, "project.restore")
    return project


def _set(db: Session, project: Project, *, archived: bool) -> bool:
    """Whether it was not so before."""
    is_so = Project.archived_at.is_not(None) if archived else Project.archived_at.is_(None)
    changed = db.scalar(
        update(Project)
        .where(Project.id == project.id, ~is_so)
        .values(archived_at=utcnow() if archived else None)
        .returning(Project.id)
        .execution_options(synchronize_session=False)
    )
    db.refresh(project)
    return changed is not None


def _record(db: Session, project: Project, actor: UUID | None, action: str) -> None:
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=f"project:{project.id}")
