"""What refilling reads and writes in Postgres, a short transaction each."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.comparisons.queries import ready_count
from app.comparisons.service import create_comparison
from app.db.tables import Completion, Project, Prompt, Round, Version
from app.projects.schemas import SamplingSettings
from app.versions.queries import current

LEASE_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill a project's buffer, for ``LEASE_SECONDS`` from the last extension."""

    project_id: UUID
    until: datetime
    """As stored: whoever finds another time there has lost it."""
    failures: int
    """Fillings that failed one after another before this one."""


@dataclass(frozen=True, slots=True)
class ToSample:
    """A prompt to be asked."""

    id: UUID
    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is missing, and from whom to get it."""

    version_id: UUID
    sampling: SamplingSettings
    slots: int
    """Votes that each comparison asks for."""
    missing: int
    prompts: list[ToSample]


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion as it will be stored."""

    text: str
    prompt_ids: list[int]
    ids: list[int]
    end: str
    sampling: dict[str, Any]


def claim(db: Session, project_id: UUID) -> Lease | None:
    """Take the project's refill; None when somebody has it, a backoff is not over, or the project is put aside."""
    now = func.clock_timestamp()
    row = db.execute(
        update(Project)
        .where(
            Project.id == project_id,
            Project.archived_at.is_(None),
            or_(Project.refill_lease_until.is_(None), Project.refill_lease_until < now),
            or_(Project.refill_due_at.is_(None), Project.refill_due_at <= now),
        )
        .values(refill_lease_until=now + timedelta(seconds=LEASE_SECONDS))
        .returning(Project.refill_lease_until, Project.refill_failures)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Lease(project_id, row.refill_lease_until, row.refill_failures)


def extend(db: Session, lease: Lease) -> Lease | None:
    """Keep it; None when it was lost to another worker."""
    until = db.scalar(
        _held(lease)
        .values(refill_lease_until=func.clock_timestamp() + timedelta(seconds=LEASE_SECONDS))
        .returning(Project.refill_lease_until)
    )
    return None if until is None else replace(lease, until=until)


def release(db: Session, lease: Lease) -> None:
    """It is done, and nothing is in the way."""
    db.execute(_held(lease).values(refill_lease_until=None, refill_problem=None, refill_failures=0, refill_due_at=None))


def give_up(db: Session, lease: Lease, problem: str | None, *, wait_seconds: float, failed: bool) -> None:
    """It cannot be done now: say why, and try again after ``wait_seconds``."""
    db.execute(
        _held(lease).values(
            refill_lease_until=None,
            refill_problem=problem,
            refill_failures=Project.refill_failures + 1 if failed else Project.refill_failures,
            refill_due_at=func.clock_timestamp() + timedelta(seconds=wait_seconds),
        )
    )


def backoff_seconds(failures: int, rng: Random) -> float:
    """Wait after so many failures in a row: doubled each time up to a minute, and spread so that projects differ."""
    return min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10)) * rng.uniform(0.5, 1.0)


def plan(db: Session, lease: Lease, *, most: int) -> Plan | None:
    """What to sample next, at most ``most`` prompts; None when the buffer is full, or there is no model or prompt.

    Prompts that were sampled least come first, equals by chance; held-out ones take their turn like all others.
    """
    project = db.get_one(Project, lease.project_id, populate_existing=True)
    version = current(db, project)
    missing = project.buffer_size - ready_count(db, project)
    if version is None or missing <= 0 or project.archived_at is not None:
        return None
    usable = select(Prompt.id, Prompt.messages).where(
        Prompt.project_id == project.id, Prompt.archived_at.is_(None), Prompt.problem.is_(None)
    )
    rows = db.execute(usable.order_by(Prompt.sampled_count, func.random()).limit(min(missing, most))).all()
    if not rows:
        return None
    return Plan(
        version_id=version.id,
        sampling=SamplingSettings.model_validate(project.sampling),
        slots=project.votes_per_comparison,
        missing=missing,
        prompts=[ToSample(row.id, row.messages) for row in rows],
    )


def store(db: Session, lease: Lease, plan: Plan, prompt_id: UUID, pair: tuple[Answer, Answer], rng: Random) -> bool:
    """Queue two answers as a comparison; False when their version is no longer the current one, and nothing is kept.

    The version's row is share-locked: a promotion waits for this, and then withdraws the pair.
    """
    state = db.scalar(select(Version.state).where(Version.id == plan.version_id).with_for_update(read=True))
    if state != "current":
        return False
    project = db.get_one(Project, lease.project_id)
    rows = [
        Completion(
            project_id=project.id,
            prompt_id=prompt_id,
            version_id=plan.version_id,
            text=answer.text,
            prompt_ids=answer.prompt_ids,
            ids=answer.ids,
            end=answer.end,
            sampling=answer.sampling,
        )
        for answer in pair
    ]
    db.add_all(rows)
    db.flush()
    create_comparison(db, project=project, completion_a=rows[0], completion_b=rows[1], slots=plan.slots, rng=rng)
    count_attempt(db, prompt_id)
    return True


def count_attempt(db: Session, prompt_id: UUID) -> None:
    """The prompt was sampled, whatever came of it; others are first in line now."""
    db.execute(
        update(Prompt)
        .where(Prompt.id == prompt_id)
        .values(sampled_count=Prompt.sampled_count + 1)
        .execution_options(synchronize_session=False)
    )


def set_problem(db: Session, prompt_id: UUID, problem: str) -> None:
    """The prompt cannot be sampled; it is passed over and shown to admins until they take it up again."""
    db.execute(
        update(Prompt)
        .where(Prompt.id == prompt_id)
        .values(problem=problem)
        .execution_options(synchronize_session=False)
    )


def somebody_trains(db: Session) -> bool:
    """Whether a living worker trains a round: the engine may be asleep on purpose."""
    trains = select(Round.id).where(Round.state == "training", Round.lease_expires_at >= func.clock_timestamp())
    return db.scalar(trains.limit(1)) is not None


def _held(lease: Lease) -> Any:
    return (
        update(Project)
        .where(Project.id == lease.project_id, Project.refill_lease_until == lease.until)
        .execution_options(synchronize_session=False)
    )
