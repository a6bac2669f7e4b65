"""Edits that reviewers made: texts that become completions of their own, once somebody has tokenised them.

The product has no tokenizer of a model's; the worker has one, and does this before a round reads the votes. An edit is
tokenised once and stays what it became, so that every later round trains on the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.ids import new_id
from app.db.tables import Completion, Correction, Project


@dataclass(frozen=True, slots=True)
class Edit:
    """A corrected answer that has no tokens yet."""

    vote_id: UUID
    prompt_id: UUID
    text: str
    prompt_ids: list[int]
    """As the answer that was edited had them."""
    end_id: int | None
    """The token by which that answer ended itself; null when it did not."""


# Only the latest revision of a vote that counts, and the answer it was made from: the preferred one, of a ranking the
# first of its best.
_PENDING = text("""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id) v.*
        FROM votes v WHERE v.project_id = :project ORDER BY v.assignment_id, v.revision DESC
    )
    SELECT l.id AS vote_id, c.prompt_id, l.corrected, t.prompt_ids,
           CASE WHEN t."end" = 'eos' THEN t.ids[cardinality(t.ids)] END AS end_id
    FROM latest l
    JOIN assignments a ON a.id = l.assignment_id AND a.state IN ('voted', 'feedback')
    JOIN comparisons c ON c.id = l.comparison_id AND c.purpose = 'work'
    LEFT JOIN comparison_items i ON i.comparison_id = c.id AND i.position = (l.ranking -> 0 ->> 0)::int
    JOIN completions t ON t.id = CASE WHEN l.choice = 'ranked' THEN i.completion_id
                                      WHEN l.choice = 'a' THEN c.completion_a_id
                                      WHEN l.choice = 'b' THEN c.completion_b_id END
    WHERE l.corrected IS NOT NULL AND NOT EXISTS (SELECT 1 FROM corrections k WHERE k.vote_id = l.id)
      AND cardinality(t.prompt_ids) > 0 AND btrim(l.corrected) <> ''
    ORDER BY l.id
    LIMIT :limit
""")


def pending(db: Session, project: Project, *, limit: int = 500) -> list[Edit]:
    """Edits to be tokenised, some at a time; empty when none is left."""
    rows = db.execute(_PENDING, {"project": project.id, "limit": limit})
    return [Edit(row.vote_id, row.prompt_id, row.corrected, list(row.prompt_ids), row.end_id) for row in rows]


def store(db: Session, project: Project, edits: Sequence[tuple[Edit, list[int]]]) -> int:
    """Keep edits with their token ids as completions of a person's; how many were new.

    Two workers may do the same edit: the second finds it done.
    """
    made = 0
    for edit, ids in edits:
        completion_id = new_id()
        values: dict[str, Any] = {
            "id": completion_id,
            "project_id": project.id,
            "prompt_id": edit.prompt_id,
            "version_id": None,
            "text": edit.text,
            "prompt_ids": edit.prompt_ids,
            "ids": ids,
            "end": "human",
            "sampling": {},
        }
        db.execute(insert(Completion).values(**values))
        kept = db.execute(
            insert(Correction)
            .values(vote_id=edit.vote_id, completion_id=completion_id)
            .on_conflict_do_nothing()
            .returning(Correction.vote_id)
        ).scalar_one_or_none()
        if kept is None:
            db.execute(text("DELETE FROM completions WHERE id = :id"), {"id": completion_id})
        else:
            made += 1
    return made
