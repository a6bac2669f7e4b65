"""How a project's refill is doing: what is ready and wanted, what stands in the way, and what it met."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.comparisons import refill_counts
from app.comparisons.pace import buffer_target, votes_per_minute
from app.comparisons.queries import ready_count
from app.db.base import utcnow
from app.db.tables import Comparison, Project
from app.projects.refilling import refilling_of
from app.rounds import blind

DAYS = 7
"""Days over which is counted what the refill met."""

State = Literal["filling", "waiting", "full", "low"]
"""filling: a worker samples · waiting: it backs off · full: enough is ready · low: a worker will come."""

_REFUSED = ("identical", "near_identical", "empty", "unreadable", "looping")


@dataclass(frozen=True, slots=True)
class Refill:
    """The refill of a project now."""

    state: State
    ready: int
    target: int
    """Pairs it keeps ready at the present pace."""
    votes_per_minute: float
    problem: str | None
    failures: int
    """Turns that failed, one after another."""
    due_at: datetime | None
    """When it tries again; null when nothing keeps it."""
    last_error: str | None
    """The latest problem, also when it is over."""
    last_error_at: datetime | None
    strategy: str
    waiting: dict[str, int]
    """Open comparisons by kind: current, previous, candidate, gate."""
    counts: dict[str, int]
    """What it met over the last ``DAYS`` days, by the kinds of ``app.comparisons.refill_counts``."""

    @property
    def refused(self) -> int:
        """Answers that were not fit to be shown."""
        return sum(self.counts[kind] for kind in _REFUSED)

    @property
    def refused_share(self) -> float | None:
        """Share of all sampled answers; None before the first."""
        return self.refused / self.counts["sampled"] if self.counts["sampled"] else None

    @property
    def seconds_each(self) -> float | None:
        """Sampling time of a comparison; None before the first."""
        return self.counts["seconds"] / self.counts["formed"] if self.counts["formed"] else None

    @property
    def met(self) -> list[tuple[str, int]]:
        """What was met, in words, without what never was and without the time it took."""
        return [
            (said, self.counts[kind])
            for kind, said in refill_counts.KINDS.items()
            if self.counts[kind] and kind != "seconds"
        ]


def refill(db: Session, project: Project, *, now: datetime | None = None) -> Refill:
    """Everything the panel on the overview shows."""
    now = now or utcnow()
    ready, target = ready_count(db, project, now=now), buffer_target(db, project, now=now)
    due_at = project.refill_due_at if project.refill_due_at and project.refill_due_at > now else None
    state: State = "full" if ready >= target and not blind.missing(db, project) else "low"
    if project.refill_lease_until is not None and project.refill_lease_until > now:
        state = "filling"
    elif project.refill_problem is not None or due_at is not None:
        state = "waiting"
    kinds = (
        select(Comparison.kind, func.count().label("number"))
        .where(Comparison.project_id == project.id, Comparison.purpose == "work", Comparison.state == "open")
        .group_by(Comparison.kind)
    )
    return Refill(
        state=state,
        ready=ready,
        target=target,
        votes_per_minute=round(votes_per_minute(db, project.id, now=now), 2),
        problem=project.refill_problem,
        failures=project.refill_failures,
        due_at=due_at,
        last_error=project.refill_last_error,
        last_error_at=project.refill_last_error_at,
        strategy=refilling_of(project.refilling).strategy,
        waiting={row.kind: row.number for row in db.execute(kinds)},
        counts=refill_counts.totals(db, project, days=DAYS),
    )
