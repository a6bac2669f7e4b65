"""Thumbs of API clients as they were given, with the answers they speak of, for admins to read and to take along."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, RowMapping, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons.qualifying import IDLE_FEEDBACK, bar_sql, names
from app.db.tables import Project
from app.preferences.records import Split

CHOICES = {True: "up", False: "down", None: "undone"}
"""What is said by ``completion_labels.desirable``."""

_THUMBS = f"""
    SELECT l.id, t.prompt_id, l.user_id AS reviewer_id, u.email AS reviewer,
           coalesce(nullif(u.name, ''), u.email) AS who, l.revision, l.desirable, l.comment, l.source,
           l.idempotency_key, l.created_at, later.replaced,
           CASE WHEN p.held_out THEN 'eval' ELSE 'train' END AS split, p.messages AS prompt,
           json_build_array(
             json_build_object('completion_id', t.id, 'version', made.number, 'text', t.text)) AS answers,
           CASE
               WHEN later.replaced THEN 'replaced'
               WHEN l.desirable IS NULL THEN 'undone'
               WHEN pr.feedback = 'ignore' OR {bar_sql("l.user_id")} = ANY(:idle) THEN 'feedback'
               WHEN cardinality(t.ids) = 0 OR cardinality(t.prompt_ids) = 0 THEN 'empty'
           END AS left_out
    FROM completion_labels l
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT 1 FROM completion_labels x
            WHERE x.completion_id = l.completion_id AND x.user_id = l.user_id AND x.revision > l.revision
        ) AS replaced
    ) later
    JOIN completions t ON t.id = l.completion_id
    JOIN prompts p ON p.id = t.prompt_id
    JOIN projects pr ON pr.id = l.project_id
    JOIN users u ON u.id = l.user_id
    LEFT JOIN versions made ON made.id = t.version_id
    LEFT JOIN standings st ON st.project_id = l.project_id AND st.reviewer_id = l.user_id
    WHERE l.project_id = :project
"""  # noqa: S608 - composed of constants
_EVERY = text(f"""{_THUMBS}
      AND (CAST(:split AS text) IS NULL OR p.held_out = (:split = 'eval'))
    ORDER BY l.created_at, l.id
""").bindparams(bindparam("asks", type_=Boolean))
_PAGE = text(f"""{_THUMBS}
      AND (CAST(:before AS uuid) IS NULL OR (l.created_at, l.id) <
           (SELECT b.created_at, b.id FROM completion_labels b WHERE b.id = :before AND b.project_id = :project))
    ORDER BY l.created_at DESC, l.id DESC
    LIMIT :limit
""").bindparams(bindparam("asks", type_=Boolean))  # noqa: S608 - composed of constants
_ANY = text("SELECT EXISTS (SELECT 1 FROM completion_labels WHERE project_id = :project)")


@dataclass(frozen=True, slots=True)
class Thumb:
    """One revision of a thumb, with the answer it speaks of."""

    id: UUID
    who: str
    choice: str
    """'up', 'down' or 'undone'."""
    comment: str | None
    created_at: datetime
    replaced: bool
    """By a later word of the same person on the same answer."""
    held_out: bool
    messages: list[dict[str, Any]]
    answer: str
    version: int | None


def every(db: Session, project: Project, *, split: Split | None, options: Mapping[str, Any]) -> Iterator[RowMapping]:
    """All of them, every revision, the oldest first; ``options`` of the execution."""
    values = names(project) | {"idle": list(IDLE_FEEDBACK), "split": split}
    return iter(db.execute(_EVERY, values, execution_options=options).mappings())


def page(db: Session, project: Project, *, limit: int, before: UUID | None = None) -> list[Thumb]:
    """Some of them, newest first. ``before``: the last one of the page before."""
    values = names(project) | {"idle": list(IDLE_FEEDBACK), "before": before, "limit": limit}
    return [
        Thumb(
            id=row["id"],
            who=row["who"],
            choice=CHOICES[row["desirable"]],
            comment=row["comment"],
            created_at=row["created_at"],
            replaced=row["replaced"],
            held_out=row["split"] == "eval",
            messages=row["prompt"],
            answer=row["answers"][0]["text"],
            version=row["answers"][0]["version"],
        )
        for row in db.execute(_PAGE, values).mappings()
    ]


def given(db: Session, project: Project) -> bool:
    """Whether there are any."""
    return bool(db.execute(_ANY, {"project": project.id}).scalar_one())
