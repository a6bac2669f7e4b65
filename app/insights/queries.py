"""What an admin, or a reviewer, should see of a project at one glance."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session

from app.comparisons.queries import ready_count, votes_since_last_round
from app.db.base import utcnow
from app.db.tables import Assignment, Membership, Project, Prompt, Round, Version, Vote

ACTIVE = ("queued", "preparing", "training", "publishing")

NextStep = Literal["import_running", "import_failed", "import_missing", "prompts", "first_votes", "none"]


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of a project now."""

    current: Version | None
    candidate: Version | None
    """The newest version that waits for a decision."""
    active_round: Round | None
    last_round: Round | None
    """The newest training round that has ended, however it did."""
    import_round: Round | None
    """The newest attempt to bring in the base model."""
    ready: int
    """Pairs that wait for a reviewer."""
    votes_today: int
    votes_total: int
    votes_new: int
    """Counted votes that no round has read, held-out prompts left out: what the next round counts."""
    prompts: int
    reviewers: int

    @property
    def next_step(self) -> NextStep:
        """What the project lacks before its first round."""
        if self.current is None:
            if self.active_round is not None:
                return "import_running"
            return "import_missing" if self.import_round is None else "import_failed"
        if self.prompts == 0:
            return "prompts"
        return "first_votes" if self.ready and self.votes_total == 0 else "none"


def overview(db: Session, project: Project, *, now: datetime | None = None) -> Overview:
    """Everything the project's first page shows."""
    midnight = (now or utcnow()).replace(hour=0, minute=0, second=0, microsecond=0)
    here = Assignment.project_id == project.id
    counted = (here, Assignment.state == "voted")
    since_midnight = exists().where(Vote.assignment_id == Assignment.id, Vote.created_at >= midnight)
    return Overview(
        current=_version(db, project, "current"),
        candidate=_version(db, project, "candidate"),
        active_round=_round(db, project, Round.state.in_(ACTIVE)),
        last_round=_round(db, project, Round.kind == "dpo", Round.state.not_in(ACTIVE)),
        import_round=_round(db, project, Round.kind == "import"),
        ready=ready_count(db, project, now=now),
        votes_today=_count(db, select(func.count()).select_from(Assignment).where(*counted, since_midnight)),
        votes_total=_count(db, select(func.count()).select_from(Assignment).where(*counted)),
        votes_new=votes_since_last_round(db, project),
        prompts=_count(db, select(func.count()).where(Prompt.project_id == project.id, Prompt.archived_at.is_(None))),
        reviewers=_count(db, select(func.count()).where(Membership.project_id == project.id)),
    )


def _version(db: Session, project: Project, state: str) -> Version | None:
    query = select(Version).where(Version.project_id == project.id, Version.state == state)
    return db.scalar(query.order_by(Version.number.desc()).limit(1))


def _round(db: Session, project: Project, *conditions: ColumnElement[bool]) -> Round | None:
    query = select(Round).where(Round.project_id == project.id, *conditions)
    return db.scalar(query.order_by(Round.number.desc()).limit(1))


def _count(db: Session, query: Select[int]) -> int:
    return db.scalar(query) or 0
