"""What a lease shows, read in the statement that takes it: the columns of a pair, and the pair made of them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.comparisons.records import Leased, choice_of
from app.db.direct import Row
from app.db.tables import Project

SHOWN = """
    a.id AS assignment_id, a.comparison_id, a.project_id, a.leased_at, a.expires_at, a.left_side, a.shown_order,
    c.mode, p.messages, x.text AS text_a, y.text AS text_b,
    CASE WHEN c.mode = 'ranking' THEN (
        SELECT array_agg(t.text ORDER BY i.position)
        FROM comparison_items i JOIN completions t ON t.id = i.completion_id WHERE i.comparison_id = c.id
    ) END AS texts
"""
SHOWN_FROM = """
    JOIN comparisons c ON c.id = a.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
"""


def lease_values(project: Project, reviewer_id: UUID, now: datetime) -> dict[str, Any]:
    """What every statement that takes a lease needs to know."""
    expires = now + timedelta(seconds=project.lease_seconds)
    return {"project": project.id, "reviewer": reviewer_id, "now": now, "expires": expires}


def to_leased(row: Row) -> Leased:
    """What the reviewer is given, of a row with the columns of ``SHOWN``."""
    texts = (row["text_a"], row["text_b"])
    order = (0, 1) if row["left_side"] == "a" else (1, 0)
    if row["mode"] == "ranking":
        texts, order = tuple(row["texts"]), tuple(row["shown_order"])
    return Leased(
        assignment_id=row["assignment_id"],
        comparison_id=row["comparison_id"],
        project_id=row["project_id"],
        mode=row["mode"],
        messages=row["messages"],
        answers=tuple(texts[position] for position in order),
        leased_at=row["leased_at"],
        expires_at=row["expires_at"],
        holds_slot=row["holds_slot"],
        previous=None if row["previous"] in (None, "undone") else choice_of(row["previous"]),
    )
