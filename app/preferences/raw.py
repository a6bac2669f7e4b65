"""Votes and thumbs as they were given: every revision, with all that was said, and whether a round would read it."""

from collections.abc import Iterator, Mapping
from heapq import merge
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.preferences import reading, thumbs
from app.preferences.records import Split
from app.preferences.votes import Filter, conditions

_ROWS_PER_FETCH = 500

_VOTES = """
    SELECT v.id, v.assignment_id, v.comparison_id, c.prompt_id, v.reviewer_id, u.email AS reviewer, v.revision,
           v.choice, v.shown_choice, a.left_side, a.shown_order, v.mirrored, v.strength, v.criteria, v.tags, v.ranking,
           v.comment, v.reason, v.corrected, v.seconds, v.source, v.idempotency_key, v.created_at, c.purpose,
           k.answer AS known_answer, a.state, a.frozen_at, CASE WHEN p.held_out THEN 'eval' ELSE 'train' END AS split,
           EXISTS (
             SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision
           ) AS replaced,
           CASE WHEN d.id IS NOT NULL THEN json_build_object(
               'choice', d.outcome, 'strength', d.strength, 'note', d.note, 'left_side', d.left_side,
               'saw_votes', d.saw_votes, 'decided_by', d.decided_by, 'decided_at', d.created_at) END AS adjudication,
           p.messages AS prompt, (
               SELECT json_agg(json_build_object('completion_id', t.id, 'version', made.number, 'text', t.text)
                               ORDER BY i.position)
               FROM (SELECT 0 AS position, c.completion_a_id AS completion_id WHERE c.mode = 'pair'
                     UNION ALL SELECT 1, c.completion_b_id WHERE c.mode = 'pair'
                     UNION ALL SELECT item.position, item.completion_id FROM comparison_items item
                               WHERE item.comparison_id = c.id) i
               JOIN completions t ON t.id = i.completion_id LEFT JOIN versions made ON made.id = t.version_id
           ) AS answers
    FROM votes v
    JOIN assignments a ON a.id = v.assignment_id
    JOIN comparisons c ON c.id = v.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN users u ON u.id = v.reviewer_id
    LEFT JOIN controls k ON k.id = c.control_id
    LEFT JOIN adjudications d ON d.comparison_id = c.id AND d.withdrawn_at IS NULL
    WHERE v.project_id = :project AND (CAST(:split AS text) IS NULL OR p.held_out = (:split = 'eval'))
"""
_IN_ORDER = "ORDER BY v.created_at, v.id"


def votes(db: Session, project: Project, *, split: Split | None = None) -> Iterator[dict[str, Any]]:
    """A JSON-ready row for each revision, oldest first, read in parts while they are sent.

    'a' and 'b' are the first and second of ``answers``, in ``choice`` and ``criteria``; a ``ranking`` is tiers of
    places in it, the best first; a thumb has one answer, and says 'up', 'down' or 'undone' of it. ``counts`` says
    whether a round would read it now, ``left_out`` why not: a reason of ``reading``, 'replaced' by a later word, or
    'check' (gold, attention and repeated pairs never train). ``adjudication`` is the decision that stands about the
    pair, of the same 'a' and 'b', or null.
    """
    options = {"yield_per": _ROWS_PER_FETCH}
    values = {"project": project.id, "split": split}
    reasons = reading.reasons(db, project)
    cast: Iterator[RowMapping] = iter(
        db.execute(text(f"{_VOTES} {_IN_ORDER}"), values, execution_options=options).mappings()
    )
    given = thumbs.every(db, project, split=split, options=options)
    for row in merge(cast, given, key=lambda row: (row["created_at"], row["id"])):
        written = _thumb(row) if "desirable" in row else _vote(row, reasons)
        if written is not None:
            yield _about(row) | written


def selected(db: Session, project: Project, wanted: Filter) -> Iterator[dict[str, Any]]:
    """The same rows of the votes that stand and that the filter asks for, without thumbs and earlier words."""
    reasons = reading.reasons(db, project)
    asked, values = conditions(wanted)
    query = text(f"{_VOTES} AND {asked} {_IN_ORDER}")
    options = {"yield_per": _ROWS_PER_FETCH}
    for row in db.execute(query, values | {"project": project.id, "split": None}, execution_options=options).mappings():
        written = _vote(row, reasons)
        if written is not None:
            yield _about(row) | written


def _about(row: RowMapping) -> dict[str, Any]:
    """What votes and thumbs have in common."""
    return {
        "id": str(row["id"]),
        "prompt_id": str(row["prompt_id"]),
        "reviewer_id": str(row["reviewer_id"]),
        "reviewer": row["reviewer"],
        "created_at": row["created_at"].isoformat(),
        "source": row["source"],
        "idempotency_key": row["idempotency_key"],
        "revision": row["revision"],
        "latest": not row["replaced"],
        "comment": row["comment"],
        "split": row["split"],
        "prompt": row["prompt"],
        "answers": row["answers"],
    }


def _vote(row: RowMapping, reasons: Mapping[UUID, str | None]) -> dict[str, Any] | None:
    """The rest of a vote; null of one that was cast after the export began."""
    if not row["replaced"] and row["purpose"] == "work" and row["id"] not in reasons:
        return None
    left_out = "replaced" if row["replaced"] else "check" if row["purpose"] != "work" else reasons[row["id"]]
    return {
        "comparison_id": str(row["comparison_id"]),
        "assignment_id": str(row["assignment_id"]),
        "choice": row["choice"],
        "shown_choice": row["shown_choice"],
        "left_side": row["left_side"],
        "shown_order": row["shown_order"],
        "mirrored": row["mirrored"],
        "strength": row["strength"],
        "criteria": row["criteria"],
        "tags": row["tags"],
        "ranking": row["ranking"],
        "reason": row["reason"],
        "corrected": row["corrected"],
        "seconds": row["seconds"],
        "purpose": row["purpose"],
        "known_answer": row["known_answer"],
        "state": row["state"],
        "counts": left_out is None,
        "left_out": left_out,
        "read_at": row["frozen_at"].isoformat() if row["frozen_at"] else None,
        "adjudication": row["adjudication"],
    }


_NOT_OF_THUMBS = (
    *("comparison_id", "assignment_id", "shown_choice", "left_side", "shown_order", "mirrored", "strength", "ranking"),
    *("reason", "corrected", "seconds", "known_answer", "state", "read_at", "adjudication"),
)  # fmt: skip


def _thumb(row: RowMapping) -> dict[str, Any]:
    """The rest of a thumb: a word on one answer, which nobody was shown beside another."""
    return dict.fromkeys(_NOT_OF_THUMBS) | {
        "purpose": "thumb",
        "choice": thumbs.CHOICES[row["desirable"]],
        "criteria": {},
        "tags": [],
        "counts": row["left_out"] is None,
        "left_out": row["left_out"],
    }
