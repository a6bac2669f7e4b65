"""Reads: how many pairs are ready, how many votes wait for a round, what a reviewer has said so far."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, not_, or_, select, text
from sqlalchemy.orm import Session

from app.comparisons.records import Choice, choice_of
from app.db.base import utcnow
from app.db.tables import Assignment, Comparison, Project, Prompt


def ready_count(db: Session, project: Project, *, now: datetime | None = None) -> int:
    """Open comparisons that anybody could be given: nobody holds one, and nobody has judged or skipped it.

    What some have judged or skipped waits for the others, who may never come: counted as ready, it would keep new
    pairs from a team of one. A lease that ran out leaves no trace here.
    """
    lapsed = (Assignment.state == "leased") & (Assignment.expires_at <= (now or utcnow()))
    touched = exists().where(
        Assignment.comparison_id == Comparison.id, not_(or_(Assignment.state == "expired", lapsed))
    )
    return db.execute(
        select(func.count()).where(Comparison.project_id == project.id, Comparison.state == "open", not_(touched))
    ).scalar_one()


def votes_since_last_round(db: Session, project: Project) -> int:
    """Counted votes on prompts that may train, which no round has frozen."""
    return db.execute(
        select(func.count())
        .select_from(Assignment)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .where(
            Assignment.project_id == project.id,
            Assignment.state == "voted",
            Assignment.frozen_at.is_(None),
            Prompt.held_out.is_(False),
        )
    ).scalar_one()


def project_of_comparison(db: Session, comparison_id: UUID) -> UUID | None:
    """The project a comparison belongs to, for deciding who may touch it."""
    return db.execute(select(Comparison.project_id).where(Comparison.id == comparison_id)).scalar_one_or_none()


def is_changeable(db: Session, assignment_id: UUID) -> bool:
    """Whether no round has learned from what was said of it."""
    return db.execute(select(Assignment.frozen_at).where(Assignment.id == assignment_id)).scalar_one() is None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a reviewer and the queue stand."""

    mine_today: int
    """Pairs this reviewer judged since midnight UTC (latest revisions; skips and taken-back ones left out)."""
    mine_total: int
    ready: int
    """Pairs in the queue that this reviewer could be given, the one in hand not counted."""


_PROGRESS = text("""
    SELECT
      (SELECT count(*) FROM assignments a WHERE a.reviewer_id = :reviewer AND a.project_id = :project
         AND a.state IN ('voted', 'surplus') AND EXISTS (
           SELECT 1 FROM votes v WHERE v.assignment_id = a.id AND v.created_at >= :midnight)) AS mine_today,
      (SELECT count(*) FROM assignments a WHERE a.reviewer_id = :reviewer AND a.project_id = :project
         AND a.state IN ('voted', 'surplus')) AS mine_total,
      (SELECT count(DISTINCT s.comparison_id) FROM comparison_slots s
         WHERE s.project_id = :project AND s.state = 'free' AND NOT EXISTS (
           SELECT 1 FROM assignments seen WHERE seen.comparison_id = s.comparison_id
             AND seen.reviewer_id = :reviewer AND seen.state <> 'expired')) AS ready
""")


def progress(db: Session, *, project: Project, reviewer_id: UUID, now: datetime | None = None) -> Progress:
    """The reviewer's own count and what is left, for the bar above the pair."""
    midnight = (now or utcnow()).replace(hour=0, minute=0, second=0, microsecond=0)
    values = {"reviewer": reviewer_id, "project": project.id, "midnight": midnight}
    row = db.execute(_PROGRESS, values).one()
    return Progress(mine_today=row.mine_today, mine_total=row.mine_total, ready=row.ready)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reviewer's latest word on one comparison, as they saw it."""

    vote_id: UUID
    assignment_id: UUID
    comparison_id: UUID
    choice: Choice
    comment: str | None
    reason: str | None
    strength: int | None
    surplus: bool
    changeable: bool
    """No round has learned from it yet."""
    revision: int
    created_at: datetime
    messages: list[dict[str, Any]]
    left: str
    right: str


# Walked newest first along (reviewer, project, created_at), one row per assignment: only its latest revision.
_ANSWERS = text("""
    SELECT v.id AS vote_id, v.assignment_id, v.comparison_id, v.shown_choice, v.comment, v.reason, v.strength,
           v.surplus, v.revision, v.created_at, a.frozen_at, p.messages,
           CASE WHEN a.left_side = 'a' THEN x.text ELSE y.text END AS "left",
           CASE WHEN a.left_side = 'a' THEN y.text ELSE x.text END AS "right"
    FROM votes v
    JOIN assignments a ON a.id = v.assignment_id
    JOIN comparisons c ON c.id = v.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    WHERE v.reviewer_id = :reviewer AND v.project_id = :project AND v.choice <> 'undone'
      AND NOT EXISTS (
        SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision)
      AND (CAST(:before AS uuid) IS NULL OR (v.created_at, v.id) <
           (SELECT b.created_at, b.id FROM votes b WHERE b.id = :before AND b.reviewer_id = :reviewer))
    ORDER BY v.created_at DESC, v.id DESC
    LIMIT :limit
""")


def answers(
    db: Session, *, project_id: UUID, reviewer_id: UUID, limit: int = 30, before: UUID | None = None
) -> list[Answer]:
    """What the reviewer said in this project, newest first, one row per pair; choices taken back are left out.

    ``before`` is the ``vote_id`` of the last answer of the page before.
    """
    values = {"reviewer": reviewer_id, "project": project_id, "before": before, "limit": limit}
    return [
        Answer(
            vote_id=row["vote_id"],
            assignment_id=row["assignment_id"],
            comparison_id=row["comparison_id"],
            choice=choice_of(row["shown_choice"]),
            comment=row["comment"],
            reason=row["reason"],
            strength=row["strength"],
            surplus=row["surplus"],
            changeable=row["frozen_at"] is None,
            revision=row["revision"],
            created_at=row["created_at"],
            messages=row["messages"],
            left=row["left"],
            right=row["right"],
        )
        for row in db.execute(_ANSWERS, values).mappings()
    ]
