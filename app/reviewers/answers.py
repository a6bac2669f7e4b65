"""What a reviewer said, for admins to read: their own view of it, and what they are not told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons.queries import Answer, Said, answers, histories
from app.comparisons.records import meant_of
from app.db.tables import Project

_FATES = text("""
    SELECT v.id AS vote_id, c.purpose, a.state,
           CASE WHEN v.choice IN ('a', 'b', 'tie', 'both_bad') THEN v.choice = k.answer END AS found,
           d.outcome AS settled, d.strength AS settled_strength, a.left_side
    FROM votes v
    JOIN assignments a ON a.id = v.assignment_id
    JOIN comparisons c ON c.id = v.comparison_id
    LEFT JOIN controls k ON k.id = c.control_id
    LEFT JOIN adjudications d ON d.comparison_id = c.id AND d.withdrawn_at IS NULL AND d.outcome <> 'leave'
    WHERE v.id = ANY(:votes)
""").bindparams(bindparam("votes", type_=ARRAY(PG_UUID)))


@dataclass(frozen=True, slots=True)
class Read:
    """A reviewer's latest word on one pair, with what is known of it."""

    answer: Answer
    history: list[Said]
    """Everything they said of it, the oldest first."""
    purpose: str
    """'work', 'gold', 'attention' or 'repeat'."""
    found: bool | None
    """Of gold and attention pairs that they judged: they chose the better answer."""
    state: str
    """Of the assignment: 'voted', 'surplus', 'set_aside' …"""
    settled: tuple[str, int | None] | None
    """What was decided about the pair, in the sides that the reviewer saw, with its strength."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of them, newest first."""

    items: Sequence[Read]
    older: UUID | None
    """``before`` of the next page; null where this is the last."""


def page(db: Session, project: Project, reviewer_id: UUID, *, size: int, before: UUID | None = None) -> Page:
    """What the reviewer said in this project, one item per pair; choices taken back and feedback are left out."""
    found = answers(db, project_id=project.id, reviewer_id=reviewer_id, limit=size + 1, before=before)
    shown = found[:size]
    return Page(with_fates(db, shown), shown[-1].vote_id if len(found) > size else None)


def with_fates(db: Session, shown: Sequence[Answer]) -> list[Read]:
    """The same words, each with what is known of it."""
    said = histories(db, [answer.assignment_id for answer in shown])
    rows = db.execute(_FATES, {"votes": [answer.vote_id for answer in shown]})
    fates = {row.vote_id: row for row in rows}
    items = []
    for answer in shown:
        fate = fates[answer.vote_id]
        items.append(Read(answer, said[answer.assignment_id], fate.purpose, fate.found, fate.state, _settled(fate)))
    return items


def _settled(row: Any) -> tuple[str, int | None] | None:
    return None if row.settled is None else (meant_of(row.settled, row.left_side), row.settled_strength)
