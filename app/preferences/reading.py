"""Votes out of Postgres: the latest revision of each, and why some do not count."""

from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons.qualifying import IDLE_FEEDBACK, bar_sql, names
from app.db.tables import Project
from app.preferences.records import Split, Vote

# Checks (gold, attention, repeats) are no votes for this purpose: they are not even left out.
SPOKEN = f"""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id) v.*
        FROM votes v
        WHERE v.project_id = :project AND (CAST(:only AS uuid) IS NULL OR v.comparison_id = :only)
        ORDER BY v.assignment_id, v.revision DESC
    ), items AS (
        SELECT c.id, CASE WHEN c.mode = 'ranking' THEN (
            SELECT array_agg(i.completion_id ORDER BY i.position) FROM comparison_items i WHERE i.comparison_id = c.id
        ) ELSE ARRAY[c.completion_a_id, c.completion_b_id] END AS completions
        FROM comparisons c
        WHERE c.project_id = :project AND c.purpose = 'work' AND (CAST(:only AS uuid) IS NULL OR c.id = :only)
    ), texts AS (
        SELECT items.id,
               count(DISTINCT t.text) < count(*) OR count(DISTINCT t.ids) < count(*) AS identical,
               count(DISTINCT t.prompt_ids) > 1 AS other_prompt,
               bool_or(cardinality(t.ids) = 0 OR cardinality(t.prompt_ids) = 0) AS empty
        FROM items CROSS JOIN unnest(items.completions) AS used (id) JOIN completions t ON t.id = used.id
        WHERE items.id IN (SELECT comparison_id FROM latest)
        GROUP BY items.id
    ), flags AS (
        SELECT comparison_id, max(created_at) AS at FROM latest WHERE choice = 'flag' GROUP BY comparison_id
    ), people AS (
        SELECT who.id, {bar_sql("who.id")} AS bar
        FROM (SELECT DISTINCT reviewer_id AS id FROM latest) who
        LEFT JOIN standings st ON st.project_id = :project AND st.reviewer_id = who.id
    )
    SELECT c.prompt_id, l.comparison_id, items.completions, p.held_out, l.choice, l.strength, l.criteria, l.ranking,
           l.id AS vote_id, l.assignment_id, l.reviewer_id, l.created_at, k.completion_id AS correction_id,
           a.frozen_at IS NOT NULL AS frozen,
           CASE
               WHEN l.choice IN ('skip', 'flag', 'undone') THEN l.choice
               WHEN a.state = 'set_aside' OR (l.source <> 'feedback' AND people.bar = 'paused') THEN 'set_aside'
               WHEN l.surplus OR a.state NOT IN ('voted', 'feedback') THEN 'surplus'
               WHEN l.source = 'feedback' AND (pr.feedback = 'ignore' OR people.bar = ANY(:idle)) THEN 'feedback'
               WHEN c.state = 'flagged' OR flags.at > coalesce(c.flags_cleared_at, '-infinity') THEN 'flagged'
               WHEN texts.identical THEN 'identical'
               WHEN texts.other_prompt THEN 'other_prompt'
               WHEN texts.empty THEN 'empty'
           END AS left_out
    FROM latest l
    JOIN assignments a ON a.id = l.assignment_id
    JOIN comparisons c ON c.id = l.comparison_id AND c.purpose = 'work'
    JOIN items ON items.id = c.id
    JOIN texts ON texts.id = c.id
    JOIN projects pr ON pr.id = c.project_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN people ON people.id = l.reviewer_id
    LEFT JOIN flags ON flags.comparison_id = l.comparison_id
    LEFT JOIN corrections k ON k.vote_id = l.id
"""  # noqa: S608 - composed of constants
"""The latest word of everybody on every pair of work, or on the ``only`` one, and in ``left_out`` why it does not
count; to be run with ``values``."""
_VOTES = text(f"{SPOKEN} ORDER BY c.prompt_id, c.created_at, l.comparison_id, l.id").bindparams(
    bindparam("asks", type_=Boolean)
)


def values(project: Project, *, only: UUID | None = None) -> dict[str, Any]:
    """What ``SPOKEN`` asks for. ``only``: the one comparison that is looked at."""
    return names(project) | {"idle": list(IDLE_FEEDBACK), "only": only}


@dataclass(frozen=True, slots=True)
class Read:
    """A project's votes as they stand."""

    votes: list[Vote]
    """By prompt, comparison and vote."""
    left_out: Counter[str]


def read(db: Session, project: Project) -> Read:
    """The votes that may count, and how many do not, by reason."""
    votes: list[Vote] = []
    left_out: Counter[str] = Counter()
    for row in db.execute(_VOTES, values(project)):
        if row.left_out is not None:
            left_out[row.left_out] += 1
        else:
            votes.append(_vote(row))
    return Read(votes, left_out)


def reasons(db: Session, project: Project) -> dict[UUID, str | None]:
    """Of the latest word on every pair of work, by its vote: why it does not count; null where it does."""
    rows = db.execute(_VOTES, values(project))
    return {row.vote_id: row.left_out for row in rows}


def _vote(row: Any) -> Vote:
    return Vote(
        vote_id=row.vote_id,
        assignment_id=row.assignment_id,
        reviewer_id=row.reviewer_id,
        comparison_id=row.comparison_id,
        prompt_id=row.prompt_id,
        split=_split(row.held_out),
        choice=row.choice,
        items=tuple(row.completions),
        at=row.created_at,
        strength=row.strength,
        criteria=row.criteria,
        ranking=row.ranking,
        correction_id=row.correction_id,
        frozen=row.frozen,
    )


def _split(held_out: bool) -> Split:
    return "eval" if held_out else "train"
