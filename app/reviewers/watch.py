"""The look that the worker takes at reviewers: where a project asks for it, bad faith is quarantined at once."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, text, update
from sqlalchemy.orm import Session

from app import logs
from app.db.base import utcnow
from app.db.tables import Project
from app.projects.queue import queue_of
from app.reviewers import detection, queries
from app.reviewers.errors import AlreadyPausedError
from app.reviewers.service import quarantine

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=15)

# Admins are not put in quarantine by a program, and whom a person has released stays released.
_SPARED = text("""
    SELECT m.user_id FROM memberships m WHERE m.project_id = :project AND m.role = 'admin'
    UNION SELECT u.id FROM users u WHERE u.is_site_admin
    UNION SELECT CAST(substr(e.subject, 6) AS uuid) FROM audit_log e
          WHERE e.project_id = :project AND e.action = 'reviewer.release' AND e.actor_id IS NOT NULL
""")


def due(db: Session, *, now: datetime | None = None) -> list[UUID]:
    """Projects to be looked at, claimed for this look: a second worker does not look too."""
    now = now or utcnow()
    waiting = select(Project).where(
        Project.archived_at.is_(None),
        Project.queue["bad_faith"].astext == "quarantine",
        or_(Project.reviewers_looked_at.is_(None), Project.reviewers_looked_at <= now - EVERY),
    )
    ids = [project.id for project in db.scalars(waiting.order_by(Project.id).with_for_update(skip_locked=True))]
    db.execute(update(Project).where(Project.id.in_(ids)).values(reviewers_looked_at=now))
    return ids


def look(db: Session, project: Project) -> list[UUID]:
    """Quarantine whoever the votes speak against, where the project wants that; whom."""
    if queue_of(project.queue).bad_faith != "quarantine":
        return []
    spared = set(db.execute(_SPARED, {"project": project.id}).scalars())
    judgements = queries.judgements(db, project)
    caught = []
    for number, suspicions in detection.by_reviewer(detection.detect(judgements)).items():
        reviewer_id: UUID = judgements.reviewers[number]
        if reviewer_id in spared:
            continue
        try:
            quarantine(
                db,
                project,
                reviewer_id,
                reason="; ".join(suspicion.told for suspicion in suspicions),
                actor=None,
                kinds=[suspicion.kind for suspicion in suspicions],
            )
        except AlreadyPausedError:
            continue
        with logs.about(project=str(project.id), slug=project.slug):
            logger.warning("%s: reviewer %s is in quarantine: %s", project.slug, reviewer_id, suspicions[0].told)
        caught.append(reviewer_id)
    return caught
