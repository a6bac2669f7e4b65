"""Votes as they were cast: every revision of every one, with all that was said, and whether a round would read it."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.preferences import reading
from app.preferences.records import Split

_ROWS_PER_FETCH = 500

_VOTES = text("""
    SELECT v.id, v.assignment_id, v.comparison_id, c.prompt_id, v.reviewer_id, u.email AS reviewer, v.revision,
           v.choice, v.shown_choice, a.left_side, a.shown_order, v.mirrored, v.strength, v.criteria, v.tags, v.ranking,
           v.comment, v.reason, v.corrected, v.seconds, v.source, v.idempotency_key, v.created_at, c.purpose,
           k.answer AS known_answer, a.state, a.frozen_at, CASE WHEN p.held_out THEN 'eval' ELSE 'train' END AS split,
           EXISTS (
             SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision
           ) AS replaced,
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
    WHERE v.project_id = :project AND (CAST(:split AS text) IS NULL OR p.held_out = (:split = 'eval'))
    ORDER BY v.created_at, v.id
""")


def votes(db: Session, project: Project, *, split: Split | None = None) -> Iterator[dict[str, Any]]:
    """A JSON-ready row for each revision, oldest first, read in parts while they are sent.

    'a' and 'b' are the first and second of ``answers``, in ``choice`` and ``criteria``; a ``ranking`` is tiers of
    places in it, the best first. ``counts`` says whether a round would read it now, ``left_out`` why not: a reason of
    ``reading``, 'replaced' by a later word, or 'check' (gold, attention and repeated pairs never train).
    """
    reasons = reading.reasons(db, project)
    found = db.execute(
        _VOTES, {"project": project.id, "split": split}, execution_options={"yield_per": _ROWS_PER_FETCH}
    )
    for row in found.mappings():
        replaced = row["replaced"]
        if not replaced and row["purpose"] == "work" and row["id"] not in reasons:
            continue  # it was cast after this export began
        left_out = "replaced" if replaced else "check" if row["purpose"] != "work" else reasons[row["id"]]
        yield {
            "id": str(row["id"]),
            "comparison_id": str(row["comparison_id"]),
            "assignment_id": str(row["assignment_id"]),
            "prompt_id": str(row["prompt_id"]),
            "reviewer_id": str(row["reviewer_id"]),
            "reviewer": row["reviewer"],
            "created_at": row["created_at"].isoformat(),
            "source": row["source"],
            "idempotency_key": row["idempotency_key"],
            "revision": row["revision"],
            "latest": not replaced,
            "choice": row["choice"],
            "shown_choice": row["shown_choice"],
            "left_side": row["left_side"],
            "shown_order": row["shown_order"],
            "mirrored": row["mirrored"],
            "strength": row["strength"],
            "criteria": row["criteria"],
            "tags": row["tags"],
            "ranking": row["ranking"],
            "comment": row["comment"],
            "reason": row["reason"],
            "corrected": row["corrected"],
            "seconds": row["seconds"],
            "purpose": row["purpose"],
            "known_answer": row["known_answer"],
            "state": row["state"],
            "counts": left_out is None,
            "left_out": left_out,
            "read_at": row["frozen_at"].isoformat() if row["frozen_at"] else None,
            "split": row["split"],
            "prompt": row["prompt"],
            "answers": row["answers"],
        }
