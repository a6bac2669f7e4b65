"""Everybody's votes, for admins to read and to take along: those of a reviewer, with a comment, of an API client, …

A filter is conditions on the rows of ``votes v``, their assignments ``a``, comparisons ``c`` and prompts ``p``, so that
the page and the export of what it lists cannot differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.queries import ANSWER_COLUMNS, ANSWER_TABLES, LATEST, answer_of
from app.db.base import utcnow
from app.db.tables import Project
from app.preferences.contradictions import AGES, Age
from app.preferences.records import Split
from app.reviewers.answers import Read, with_fates

Said = Literal["preferred", "tie", "both_bad", "ranked", "skip", "flag"]
Origin = Literal["reviewers", "clients", "playground"]
With = Literal["comment", "reasons", "correction"]

COUNTED_UP_TO = 10_000
"""More are not counted: it would take longer the more there are."""

_SAID: Mapping[Said, str] = {"preferred": "v.choice IN ('a', 'b')"} | {
    choice: f"v.choice = '{choice}'" for choice in ("tie", "both_bad", "ranked", "skip", "flag")
}  # type: ignore[assignment]
_ORIGIN: Mapping[Origin, str] = {
    "reviewers": "v.source <> 'feedback' AND c.strategy <> 'playground'",
    "clients": "v.source = 'feedback'",
    "playground": "v.source <> 'feedback' AND c.strategy = 'playground'",
}
_WITH: Mapping[With, str] = {
    "comment": "v.comment IS NOT NULL",
    "reasons": "v.tags <> '[]'",
    "correction": "v.corrected IS NOT NULL",
}
_SPLIT: Mapping[Split, str] = {"train": "NOT p.held_out", "eval": "p.held_out"}
_WORDS = """(v.comment ILIKE :words OR EXISTS (
        SELECT 1 FROM jsonb_array_elements(p.messages) turn WHERE turn ->> 'content' ILIKE :words))"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which votes are asked for; null: any."""

    mentions: str | None = None
    """In the prompt or in the comment, in capitals or not."""
    reviewer: UUID | None = None
    said: Said | None = None
    origin: Origin | None = None
    """'reviewers' by page or API, 'clients': feedback of API clients, 'playground': whoever asked there."""
    said_with: With | None = None
    split: Split | None = None
    age: Age | None = None

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return any(getattr(self, item.name) is not None for item in fields(self))


@dataclass(frozen=True, slots=True)
class Spoken:
    """Somebody's latest word on a pair or a ranking."""

    read: Read
    reviewer_id: UUID
    who: str
    origin: Origin
    held_out: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some of them, newest first."""

    items: Sequence[Spoken]
    older: UUID | None
    """``before`` of the next page; null where this is the last."""


def conditions(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """What follows a WHERE, with its values: votes that stand, and that the filter asks for."""
    found, values = ["v.choice <> 'undone'", LATEST], dict[str, Any]()
    chosen: list[tuple[Mapping[Any, str], Any]] = [
        (_SAID, wanted.said), (_ORIGIN, wanted.origin), (_WITH, wanted.said_with), (_SPLIT, wanted.split),
    ]  # fmt: skip
    found += [f"({known[value]})" for known, value in chosen if value is not None]
    if wanted.reviewer is not None:
        found.append("v.reviewer_id = :reviewer")
        values["reviewer"] = wanted.reviewer
    if wanted.mentions is not None:
        found.append(_WORDS)
        values["words"] = f"%{_literal(wanted.mentions)}%"
    if wanted.age is not None:
        youngest, oldest = AGES[wanted.age]
        found.append("v.created_at BETWEEN :since AND :until")
        now = utcnow()
        values |= {"since": now - timedelta(days=oldest), "until": now - timedelta(days=youngest)}
    return " AND ".join(found), values


def page(db: Session, project: Project, wanted: Filter, *, size: int, before: UUID | None = None) -> Page:
    """Votes that stand, one for each pair and person, newest first. ``before``: the last vote of the page before."""
    asked, values = conditions(wanted)
    rows = db.execute(
        text(f"""
            SELECT {ANSWER_COLUMNS}, v.reviewer_id, coalesce(nullif(u.name, ''), u.email) AS who, v.source, p.held_out
            FROM {ANSWER_TABLES} JOIN users u ON u.id = v.reviewer_id
            WHERE v.project_id = :project AND {asked}
              AND (CAST(:before AS uuid) IS NULL OR (v.created_at, v.id) <
                   (SELECT b.created_at, b.id FROM votes b WHERE b.id = :before AND b.project_id = :project))
            ORDER BY v.created_at DESC, v.id DESC
            LIMIT :limit
        """),  # noqa: S608 - composed of constants
        values | {"project": project.id, "before": before, "limit": size + 1},
    )
    found = rows.mappings().all()
    reads = with_fates(db, [answer_of(row) for row in found[:size]])
    items = [
        Spoken(read, row["reviewer_id"], row["who"], _origin(row["source"], row["strategy"]), row["held_out"])
        for read, row in zip(reads, found, strict=False)
    ]
    return Page(items, items[-1].read.answer.vote_id if len(found) > size else None)


def count(db: Session, project: Project, wanted: Filter) -> int:
    """How many there are, up to one more than ``COUNTED_UP_TO``."""
    asked, values = conditions(wanted)
    query = f"""
        SELECT count(*) FROM (
            SELECT 1 FROM {ANSWER_TABLES} WHERE v.project_id = :project AND {asked} LIMIT :most
        ) found"""  # noqa: S608 - composed of constants
    return int(db.execute(text(query), values | {"project": project.id, "most": COUNTED_UP_TO + 1}).scalar_one())


def _origin(source: str, strategy: str) -> Origin:
    return "clients" if source == "feedback" else "playground" if strategy == "playground" else "reviewers"


def _literal(words: str) -> str:
    """For a pattern: its own signs stand for themselves."""
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
