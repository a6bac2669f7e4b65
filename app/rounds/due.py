"""Rounds that nobody clicks for: after so many votes, at the times of a schedule, and the import of a new project.

Each look is idempotent, however many beats tick at once: a time of the schedule is claimed by a guarded update, and
the database allows one active round.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, not_, or_, select, update
from sqlalchemy.orm import Session

from app import logs
from app.comparisons.queries import votes_since_last_round
from app.db.base import utcnow
from app.db.tables import Assignment, Comparison, Project, Prompt, Round, Version, Vote
from app.errors import DomainError
from app.journal.outbox import enqueue
from app.journal.queues import RUN_ROUNDS
from app.projects.schedule import next_time
from app.rounds.requests import request_import, request_round
from app.rounds.spec import SpecError
from app.rounds.states import ACTIVE, Trigger

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look for due rounds brought about."""

    imports: int = 0
    rounds: int = 0
    waiting: bool = False
    """Active rounds wait for a worker."""


def look(db: Session, *, now: datetime | None = None) -> Looked:
    """Ask for every round that is due, and wake the worker if any waits."""
    now = now or utcnow()
    imports = sum(_asked(db, project) for project in _without_version(db))
    rounds = sum(_due_by_schedule(db, project, now) for project in _scheduled(db, now))
    rounds += sum(_due_by_votes(db, project) for project in _counting(db))
    waiting = _waiting(db)
    if waiting:
        enqueue(db, RUN_ROUNDS)
    return Looked(imports, rounds, waiting)


def _asked(db: Session, project: Project) -> bool:
    return _try(db, project, "setup", lambda: request_import(db, project, requested_by=project.created_by))


def _without_version(db: Session) -> list[Project]:
    """Projects for which the import of the base model was never asked; a failed one waits for a person to retry it."""
    asked = select(Round.id).where(Round.project_id == Project.id, Round.kind == "import").exists()
    made = select(Version.id).where(Version.project_id == Project.id).exists()
    query = select(Project).where(Project.archived_at.is_(None), not_(asked), not_(made))
    return list(db.scalars(query.order_by(Project.id).with_for_update(skip_locked=True, key_share=True)))


def _scheduled(db: Session, now: datetime) -> list[Project]:
    query = select(Project).where(Project.archived_at.is_(None), Project.next_round_at <= now)
    return list(db.scalars(query.where(Project.round_schedule.is_not(None)).order_by(Project.id)))


def _due_by_schedule(db: Session, project: Project, now: datetime) -> bool:
    """Claim this time of the schedule, whether a round can start or not; the next one comes in its turn."""
    try:
        following: datetime | None = next_time(str(project.round_schedule), now)
    except ValueError as error:  # it was checked when it was set; whoever wrote past that check gets no rounds
        with logs.about(project=str(project.id), slug=project.slug):
            logger.warning("the schedule of %s cannot be read, and is left alone from now on: %s", project.slug, error)
        following = None
    claimed = db.scalar(
        update(Project)
        .where(Project.id == project.id, Project.next_round_at == project.next_round_at)
        .values(next_round_at=following)
        .returning(Project.id)
        .execution_options(synchronize_session=False)
    )
    if claimed is None:
        return False
    db.refresh(project)
    return following is not None and _request(db, project, "schedule")


def _counting(db: Session) -> list[Project]:
    active = select(Round.id).where(Round.project_id == Project.id, Round.state.in_(ACTIVE)).exists()
    query = select(Project).where(Project.archived_at.is_(None), Project.round_every_votes.is_not(None), not_(active))
    return list(db.scalars(query.order_by(Project.id)))


def _due_by_votes(db: Session, project: Project) -> bool:
    needed = max(project.round_every_votes or 0, project.min_round_votes)
    if votes_since_last_round(db, project) < needed or _votes_since_stopped(db, project, needed) < needed:
        return False
    return _request(db, project, "votes")


def _votes_since_stopped(db: Session, project: Project, needed: int) -> int:
    """Votes since a round was stopped or failed: it shall not come back, or fail again, at the next tick."""
    last = db.execute(
        select(Round.state, Round.finished_at)
        .where(Round.project_id == project.id, Round.kind == "dpo")
        .order_by(Round.number.desc())
        .limit(1)
    ).one_or_none()
    if last is None or last.state not in ("cancelled", "failed"):
        return needed
    query = (
        select(func.count(Assignment.id.distinct()))
        .join(Vote, Vote.assignment_id == Assignment.id)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .where(
            Assignment.project_id == project.id,
            Assignment.state == "voted",
            Assignment.frozen_at.is_(None),
            Prompt.held_out.is_(False),
            Comparison.purpose == "work",
            Vote.created_at > last.finished_at,
        )
    )
    return db.scalar(query) or 0


def _request(db: Session, project: Project, trigger: Trigger) -> bool:
    return _try(db, project, trigger, lambda: request_round(db, project, trigger=trigger))


def _try(db: Session, project: Project, trigger: Trigger, ask: Callable[[], Round]) -> bool:
    """Ask for a round; what stands in its way is no error here, and must not stop the look at other projects."""
    with logs.about(project=str(project.id), slug=project.slug):
        try:
            with db.begin_nested():
                asked = ask()
        except (DomainError, SpecError) as error:
            logger.info("no round of %s by %s: %s", project.slug, trigger, error)
            return False
        logger.info("round %d of %s is due by %s", asked.number, project.slug, trigger)
        return True


def _waiting(db: Session) -> bool:
    unheld = or_(Round.lease_token.is_(None), Round.lease_expires_at < func.clock_timestamp())
    first: UUID | None = db.scalar(
        select(Round.id)
        .join(Project, Project.id == Round.project_id)
        .where(Round.state.in_(ACTIVE), unheld, Project.archived_at.is_(None))
        .limit(1)
    )
    return first is not None
