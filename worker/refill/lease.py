"""Who may fill a project's buffer: one worker at a time, not before a backoff is over. A short transaction each."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.db.tables import Project, Round

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
    """It cannot be done now: say why, and try again after ``wait_seconds``. The last error stays to be seen later."""
    now = func.clock_timestamp()
    values: dict[str, Any] = {
        "refill_lease_until": None,
        "refill_problem": problem,
        "refill_failures": Project.refill_failures + 1 if failed else Project.refill_failures,
        "refill_due_at": now + timedelta(seconds=wait_seconds),
    }
    if problem is not None:
        values |= {"refill_last_error": problem, "refill_last_error_at": now}
    db.execute(_held(lease).values(values))


def backoff_seconds(failures: int, rng: Random, *, at_least: float = 0.0) -> float:
    """Wait after so many failures in a row: doubled each time up to a minute, and spread so that projects differ.

    Args:
        at_least: what the engine asked for (Retry-After), up to ten times the longest wait of our own.
    """
    own = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10)) * rng.uniform(0.5, 1.0)
    asked = min(at_least, 10 * LONGEST_BACKOFF_SECONDS)
    return max(own, asked * rng.uniform(1.0, 1.25))


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
