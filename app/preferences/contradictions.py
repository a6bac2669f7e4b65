"""Pairs on which reviewers contradict each other, the most contested first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.orm import Session

from app.db.tables import Project


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One pair, with what was said of it."""

    comparison_id: UUID
    messages: list[dict[str, Any]]
    a: str
    b: str
    votes_a: int
    votes_b: int
    neither: int
    """Tie or both bad."""
    held_out: bool
    at: datetime
    """When it was last judged."""

    @property
    def place(self) -> "Place":
        """Where it stands in the list."""
        return min(self.votes_a, self.votes_b), self.at, self.comparison_id


Place = tuple[int, datetime, UUID]
"""Votes on the smaller side, when it was last judged, and which it is."""

_CONTESTED = text("""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id) v.assignment_id, v.comparison_id, v.choice, v.created_at
        FROM votes v WHERE v.project_id = :project ORDER BY v.assignment_id, v.revision DESC
    ), counted AS (
        SELECT l.comparison_id,
               count(*) FILTER (WHERE l.choice = 'a') AS votes_a,
               count(*) FILTER (WHERE l.choice = 'b') AS votes_b,
               count(*) FILTER (WHERE l.choice IN ('tie', 'both_bad')) AS neither,
               max(l.created_at) AS at
        FROM latest l
        JOIN assignments a ON a.id = l.assignment_id AND a.state IN ('voted', 'feedback')
        JOIN comparisons c ON c.id = l.comparison_id AND c.purpose = 'work' AND c.state <> 'flagged'
        GROUP BY l.comparison_id
    )
    SELECT n.comparison_id, p.messages, x.text AS a, y.text AS b, n.votes_a, n.votes_b, n.neither, p.held_out, n.at
    FROM counted n
    JOIN comparisons c ON c.id = n.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    WHERE n.votes_a > 0 AND n.votes_b > 0
      AND (CAST(:smaller AS bigint) IS NULL
           OR least(n.votes_a, n.votes_b) < :smaller
           OR least(n.votes_a, n.votes_b) = :smaller
              AND (n.at < :at OR n.at = :at AND n.comparison_id > CAST(:id AS uuid)))
    ORDER BY least(n.votes_a, n.votes_b) DESC, n.at DESC, n.comparison_id
    LIMIT :limit OFFSET :offset
""").bindparams(bindparam("at", type_=DateTime(timezone=True)))


def contradictions(
    db: Session, project: Project, *, limit: int = 20, offset: int = 0, after: Place | None = None
) -> list[Contradiction]:
    """Pairs that have preferences for either side, those with most on the smaller side first.

    Args:
        after: only those that come behind this place.
    """
    smaller, at, last = after or (None, None, None)
    values = {"project": project.id, "limit": limit, "offset": offset, "smaller": smaller, "at": at, "id": last}
    rows = db.execute(_CONTESTED, values).mappings()
    return [Contradiction(**row) for row in rows]
