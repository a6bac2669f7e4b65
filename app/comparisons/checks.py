"""Making a check: a comparison for one reviewer that shows a pair with a known answer, or one of their own again.

A check is a comparison like any other, with one slot: lease, vote, undo and expiry need no rules of their own, and
nothing that a reviewer gets tells it apart. Its id is drawn as that of all comparisons, and looks as old as that of the
work it is given in place of.
"""

from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.db.ids import blurred_id
from app.db.tables import Project
from app.projects.queue import queue_of

_MADE = """
    ), slot AS (
        INSERT INTO comparison_slots (comparison_id, slot, project_id, queue_key, state)
        SELECT id, 0, :project, 'infinity', 'free' FROM made
    )
"""

# Not one that the reviewer wrote, had before, or judged as work; not of an own prompt where the project says so.
_FRESH = """
        FROM controls k JOIN prompts p ON p.id = k.prompt_id
        WHERE k.project_id = :project AND k.kind = :kind AND k.retired_at IS NULL
          AND k.created_by IS DISTINCT FROM :reviewer
          AND (:own_prompts OR p.created_by IS DISTINCT FROM :reviewer)
          AND NOT EXISTS (SELECT 1 FROM comparisons c WHERE c.for_reviewer_id = :reviewer AND c.control_id = k.id)
          AND (k.source_id IS NULL OR NOT EXISTS (
            SELECT 1 FROM assignments a WHERE a.comparison_id = k.source_id AND a.reviewer_id = :reviewer))
"""
_CONTROL_SQL = f"""
    WITH picked AS (
        SELECT k.id, k.prompt_id, k.completion_a_id, k.completion_b_id, k.source_id
        {_FRESH} AND :wanted
        ORDER BY random()
        LIMIT 1
    ), made AS (
        INSERT INTO comparisons (id, project_id, prompt_id, completion_a_id, completion_b_id, purpose, for_reviewer_id,
                                 source_id, control_id, state, first_left, strategy)
        SELECT :id, :project, prompt_id, completion_a_id, completion_b_id, :kind, :reviewer,
               source_id, id, 'open', :first_left, 'check'
        FROM picked
        ON CONFLICT DO NOTHING
        RETURNING id
    {_MADE}
    SELECT id FROM made
"""  # noqa: S608 - composed of constants
_CONTROL = text(_CONTROL_SQL).bindparams(
    bindparam("id", type_=PG_UUID),
    bindparam("project", type_=PG_UUID),
    bindparam("reviewer", type_=PG_UUID),
    bindparam("wanted", type_=Boolean),
)

_GOLD_AHEAD = text(f"""
    SELECT (SELECT count(*) {_FRESH}) + (
        SELECT count(*) FROM assignments a JOIN comparisons c ON c.id = a.comparison_id AND c.purpose = 'gold'
        WHERE a.reviewer_id = :reviewer AND a.project_id = :project AND a.state IN ('leased', 'expired')
          AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = a.id))
""").bindparams(  # noqa: S608 - composed of constants
    bindparam("project", type_=PG_UUID), bindparam("reviewer", type_=PG_UUID)
)

# An own judgement of work, at least so many pairs ago; half of the time one of more than four weeks ago, if there is
# one, so that there is something to measure drift by. The sides are swapped.
_REPEAT_SQL = f"""
    WITH earlier AS (
        SELECT a.comparison_id, a.left_side, a.created_at
        FROM assignments a
        WHERE a.reviewer_id = :reviewer AND a.project_id = :project
        ORDER BY a.created_at DESC
        OFFSET :after LIMIT 5000
    ), picked AS (
        SELECT c.id, c.prompt_id, c.mode, c.completion_a_id, c.completion_b_id, e.left_side
        FROM earlier e JOIN comparisons c ON c.id = e.comparison_id AND c.purpose = 'work' AND c.state <> 'flagged'
        JOIN assignments a ON a.comparison_id = c.id AND a.reviewer_id = :reviewer AND a.state IN ('voted', 'surplus')
        WHERE NOT EXISTS (SELECT 1 FROM comparisons k WHERE k.for_reviewer_id = :reviewer AND k.source_id = c.id)
        ORDER BY (:old AND e.created_at < CAST(:now AS timestamptz) - interval '28 days') DESC, random()
        LIMIT 1
    ), made AS (
        INSERT INTO comparisons (id, project_id, prompt_id, mode, completion_a_id, completion_b_id, purpose,
                                 for_reviewer_id, source_id, state, first_left, strategy)
        SELECT :id, :project, prompt_id, mode, completion_a_id, completion_b_id, 'repeat', :reviewer, id, 'open',
               CASE left_side WHEN 'a' THEN 'b' ELSE 'a' END, 'check'
        FROM picked
        ON CONFLICT DO NOTHING
        RETURNING id
    ), items AS (
        INSERT INTO comparison_items (comparison_id, position, completion_id)
        SELECT made.id, i.position, i.completion_id
        FROM made, picked JOIN comparison_items i ON i.comparison_id = picked.id
    {_MADE}
    SELECT id FROM made
"""  # noqa: S608 - composed of constants
_REPEAT = text(_REPEAT_SQL).bindparams(
    bindparam("id", type_=PG_UUID),
    bindparam("project", type_=PG_UUID),
    bindparam("reviewer", type_=PG_UUID),
    bindparam("old", type_=Boolean),
)


def gold_ahead(db: Session, project: Project, reviewer_id: UUID) -> int:
    """Gold pairs that the reviewer could still be given, or holds and has not judged."""
    values = {"project": project.id, "reviewer": reviewer_id, "kind": "gold"}
    return int(db.execute(_GOLD_AHEAD, values | {"own_prompts": queue_of(project.queue).own_prompts}).scalar_one())


def make_check(
    db: Session,
    *,
    project: Project,
    reviewer_id: UUID,
    kind: str | None,
    like: UUID | None,
    own_prompts: bool,
    repeat_after: int,
    now: datetime,
    rng: Random,
) -> UUID | None:
    """The comparison made for this reviewer; null when there is nothing of the ``kind`` that they could be given.

    Without a ``kind`` the same statement runs and finds nothing: whoever measures the answers to their requests sees
    no difference.

    Args:
        like: id of the work that would be handed out otherwise; the new id is as old as that one.
    """
    values: dict[str, Any] = {
        "id": blurred_id(like, rng),
        "project": project.id,
        "reviewer": reviewer_id,
    }
    if kind == "repeat":
        values |= {"after": repeat_after, "old": rng.random() < 0.5, "now": now}
        return db.execute(_REPEAT, values).scalar_one_or_none()
    values |= {
        "wanted": kind is not None,
        "kind": kind or "gold",
        "own_prompts": own_prompts,
        "first_left": rng.choice("ab"),
    }
    return db.execute(_CONTROL, values).scalar_one_or_none()
