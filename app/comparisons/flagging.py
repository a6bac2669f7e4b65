"""Pairs that somebody flagged, and answers that say what wrote them: what an admin sees, puts back or takes out.

A flag takes a comparison out of the queue at once. An admin restores it (its closed places are free again, and flags
before that moment keep no vote from training) or withdraws it for good.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.errors import NotFlaggedError
from app.comparisons.stock import close_free_slots
from app.db.base import utcnow
from app.db.tables import Project
from app.journal import audit


@dataclass(frozen=True, slots=True)
class Flag:
    """What a reviewer said of it."""

    who: str
    reason: str
    comment: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A comparison that an admin should look at."""

    comparison_id: UUID
    state: str
    messages: list[dict[str, Any]]
    answers: list[str]
    votes: int
    """Judgements that fill its places."""
    tells: str | None
    flags: list[Flag]


_DOUBTFUL = text("""
    SELECT c.id, c.state, c.tells, p.messages,
           CASE WHEN c.mode = 'ranking' THEN (
               SELECT array_agg(t.text ORDER BY i.position)
               FROM comparison_items i JOIN completions t ON t.id = i.completion_id WHERE i.comparison_id = c.id
           ) ELSE ARRAY[x.text, y.text] END AS answers,
           (SELECT count(*) FROM comparison_slots s WHERE s.comparison_id = c.id AND s.state = 'voted') AS votes
    FROM comparisons c
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    WHERE c.project_id = :project
      AND CASE WHEN :telling THEN c.tells IS NOT NULL AND c.state IN ('open', 'complete') ELSE c.state = 'flagged' END
    ORDER BY c.closed_at DESC NULLS LAST, c.id DESC
    LIMIT :limit
""")

_FLAGS = text("""
    SELECT v.comparison_id, coalesce(nullif(u.name, ''), u.email) AS who, v.reason, v.comment, v.created_at
    FROM votes v JOIN users u ON u.id = v.reviewer_id
    WHERE v.comparison_id = ANY(:comparisons) AND v.choice = 'flag' AND NOT EXISTS (
        SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision)
    ORDER BY v.created_at
""")

_LOCK = text("""
    SELECT c.state FROM comparisons c WHERE c.id = :comparison AND c.project_id = :project FOR NO KEY UPDATE OF c
""")

_LOCK_SLOTS = text(
    "SELECT state FROM comparison_slots WHERE comparison_id = :comparison ORDER BY slot FOR NO KEY UPDATE"
)

_RESTORE = text("""
    WITH freed AS (
        UPDATE comparison_slots SET state = 'free' WHERE comparison_id = :comparison AND state = 'closed'
    )
    UPDATE comparisons c
    SET flags_cleared_at = :now, state = :state, closed_at = CASE WHEN :state = 'complete' THEN c.closed_at END
    WHERE c.id = :comparison AND c.state = 'flagged'
""")

_WITHDRAW = text("""
    UPDATE comparisons SET state = 'withdrawn', closed_at = :now
    WHERE id = :comparison AND state IN ('flagged', 'open', 'complete')
""")

_CLEAR = text("UPDATE comparisons SET tells = NULL WHERE id = :comparison AND tells IS NOT NULL")


def doubtful(db: Session, project: Project, *, telling: bool = False, limit: int = 100) -> list[Doubtful]:
    """Flagged comparisons, the latest first; or (``telling``) those in use whose answers say what wrote them."""
    rows = db.execute(_DOUBTFUL, {"project": project.id, "telling": telling, "limit": limit}).all()
    flags: dict[UUID, list[Flag]] = {}
    for row in db.execute(_FLAGS, {"comparisons": [row.id for row in rows]}):
        flags.setdefault(row.comparison_id, []).append(Flag(row.who, row.reason, row.comment, row.created_at))
    return [
        Doubtful(row.id, row.state, row.messages, row.answers, row.votes, row.tells, flags.get(row.id, []))
        for row in rows
    ]


def restore(db: Session, project: Project, comparison_id: UUID, *, actor: UUID, now: datetime | None = None) -> None:
    """Put a flagged comparison back: its closed places are free again.

    Raises:
        NotFlaggedError: it is not flagged, or another admin was faster.
    """
    if _locked(db, project, comparison_id) != "flagged":
        raise NotFlaggedError
    slots = db.execute(_LOCK_SLOTS, {"comparison": comparison_id}).scalars().all()
    state = "complete" if all(slot == "voted" for slot in slots) else "open"
    db.execute(_RESTORE, {"comparison": comparison_id, "now": now or utcnow(), "state": state})
    _record(db, project, comparison_id, actor, "comparison.restore")


def withdraw(db: Session, project: Project, comparison_id: UUID, *, actor: UUID, now: datetime | None = None) -> None:
    """Take a comparison out for good. Votes on a flagged one stay out of training; others' keep counting.

    Raises:
        NotFlaggedError: it is neither in the queue nor flagged any more.
    """
    if _locked(db, project, comparison_id) not in ("flagged", "open", "complete"):
        raise NotFlaggedError
    close_free_slots(db, [comparison_id])
    db.execute(_WITHDRAW, {"comparison": comparison_id, "now": now or utcnow()})
    _record(db, project, comparison_id, actor, "comparison.withdraw")


def clear_tells(db: Session, project: Project, comparison_id: UUID, *, actor: UUID) -> None:
    """The passage gives nothing away: the comparison is not shown to admins again.

    Raises:
        NotFlaggedError: there is no such comparison in the project.
    """
    _locked(db, project, comparison_id)
    db.execute(_CLEAR, {"comparison": comparison_id})
    _record(db, project, comparison_id, actor, "comparison.clear_tells")


def _locked(db: Session, project: Project, comparison_id: UUID) -> str:
    state = db.execute(_LOCK, {"comparison": comparison_id, "project": project.id}).scalar_one_or_none()
    if state is None:
        raise NotFlaggedError
    return str(state)


def _record(db: Session, project: Project, comparison_id: UUID, actor: UUID, action: str) -> None:
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=f"comparison:{comparison_id}")
