"""From thumbs to labels: the latest word of each person on an answer, as training reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, bindparam, insert, select, text
from sqlalchemy.orm import Session

from app.comparisons.qualifying import IDLE_FEEDBACK, bar_sql, names
from app.db.base import utcnow
from app.db.tables import Project, Round, RoundExample
from app.preferences import replaying
from app.preferences.collecting import Split, age_weight
from app.projects.aggregation import Aggregation, aggregation_of

_ROWS_PER_INSERT = 2000


@dataclass(frozen=True, slots=True)
class Label:
    """What one person said of one answer by itself."""

    prompt_id: UUID
    completion_id: UUID
    split: Split
    """'eval' on held-out prompts, else 'train'."""
    desirable: bool
    weight: float
    label_id: UUID


_LABELS = text(f"""
    WITH latest AS (
        SELECT DISTINCT ON (l.completion_id, l.user_id) l.id, l.completion_id, l.user_id, l.desirable, l.created_at
        FROM completion_labels l
        WHERE l.project_id = :project
        ORDER BY l.completion_id, l.user_id, l.revision DESC
    ), people AS (
        SELECT who.id, {bar_sql("who.id")} AS bar
        FROM (SELECT DISTINCT user_id AS id FROM latest) who
        LEFT JOIN standings st ON st.project_id = :project AND st.reviewer_id = who.id
    )
    SELECT c.prompt_id, l.completion_id, p.held_out, l.desirable, l.created_at, l.id
    FROM latest l
    JOIN completions c ON c.id = l.completion_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN people ON people.id = l.user_id
    WHERE l.desirable IS NOT NULL AND cardinality(c.ids) > 0 AND cardinality(c.prompt_ids) > 0
      AND (people.bar IS NULL OR people.bar <> ALL(:idle))
    ORDER BY c.prompt_id, l.completion_id, l.id
""").bindparams(bindparam("asks", type_=Boolean))  # noqa: S608 - composed of constants


def collect_labels(
    db: Session,
    project: Project,
    *,
    now: datetime | None = None,
    settings: Aggregation | None = None,
    start: UUID | None = None,
) -> list[Label]:
    """The project's labels as they stand now, ordered by prompt; none where the project ignores feedback.

    Window, replay and half-life hold for them as for votes; the arguments are those of ``collect``.
    """
    if project.feedback == "ignore":
        return []
    now, settings = now or utcnow(), settings or aggregation_of(project.aggregation)
    labels = [
        Label(
            prompt_id=row.prompt_id,
            completion_id=row.completion_id,
            split="eval" if row.held_out else "train",
            desirable=row.desirable,
            weight=round(age_weight(row.created_at, now, settings.half_life_days), 6),
            label_id=row.id,
        )
        for row in db.execute(_LABELS, names(project) | {"idle": list(IDLE_FEEDBACK)})
        if replaying.in_window(row.created_at, now, settings.window_days)
    ]
    if settings.replay_percent is None:
        return labels
    start = start or replaying.start_of(db, project)
    train = [(label.completion_id, label.label_id) for label in labels if label.split == "train"]
    known = replaying.learned(db, start, labels=True)
    read = replaying.replayed(train, known, settings.replay_percent, start=start)
    return [label for label in labels if label.split == "eval" or label.completion_id in read]


def freeze_labels(db: Session, round_: Round, labels: list[Label], *, first: int) -> None:
    """Write them into a round's snapshot, numbered from ``first``. What is said later counts in later rounds."""
    for start in range(0, len(labels), _ROWS_PER_INSERT):
        db.execute(
            insert(RoundExample),
            [
                {
                    "round_id": round_.id,
                    "ordinal": first + start + offset,
                    "kind": "label",
                    "prompt_id": label.prompt_id,
                    "completion_a_id": label.completion_id,
                    "split": label.split,
                    "desirable": label.desirable,
                    "weight": label.weight,
                    "vote_ids": [label.label_id],
                }
                for offset, label in enumerate(labels[start : start + _ROWS_PER_INSERT])
            ],
        )


def frozen_labels(db: Session, round_id: UUID) -> Iterator[Label]:
    """The labels of a round's snapshot, in their order."""
    query = select(RoundExample).where(RoundExample.round_id == round_id, RoundExample.kind == "label")
    for row in db.scalars(query.order_by(RoundExample.ordinal), execution_options={"yield_per": 1000}):
        yield Label(
            prompt_id=row.prompt_id,
            completion_id=row.completion_a_id,
            split="eval" if row.split == "eval" else "train",
            desirable=bool(row.desirable),
            weight=row.weight,
            label_id=row.vote_ids[0],
        )
