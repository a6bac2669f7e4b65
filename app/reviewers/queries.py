"""Reads: a project's judgements as arrays, and where its reviewers stand."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons.qualifying import Bar, bar_sql, names
from app.db.tables import Project
from app.reviewers.records import UNKNOWN, Judgements

MOST_JUDGEMENTS = 100_000
"""The latest ones are read; who needs more takes the export."""

_CHOICES = {"a": 0, "b": 1, "tie": 2, "both_bad": 3}

# Of a ranking, its items 0 and 1 are one judgement: their positions mean nothing, so it is a pair drawn at random.
_JUDGEMENTS = text("""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id) v.*
        FROM votes v WHERE v.project_id = :project
        ORDER BY v.assignment_id, v.revision DESC
    ), judged AS (
        SELECT l.id, l.reviewer_id, l.choice, l.ranking, l.seconds, l.created_at,
               coalesce(c.control_id, CASE WHEN c.purpose = 'repeat' THEN c.source_id ELSE c.id END) AS pair,
               c.purpose, k.answer, a.left_side, a.shown_order,
               char_length(x.text) AS length_a, char_length(y.text) AS length_b,
               CASE WHEN c.purpose = 'repeat' THEN c.source_id END AS source_id, c.id AS comparison_id,
               CASE WHEN d.outcome <> 'leave' THEN d.outcome END AS settled
        FROM latest l
        JOIN assignments a ON a.id = l.assignment_id AND a.state IN ('voted', 'surplus', 'set_aside')
        JOIN comparisons c ON c.id = l.comparison_id AND c.state <> 'flagged'
        JOIN completions x ON x.id = c.completion_a_id
        JOIN completions y ON y.id = c.completion_b_id
        LEFT JOIN controls k ON k.id = c.control_id
        LEFT JOIN adjudications d ON d.comparison_id = c.id AND d.withdrawn_at IS NULL AND d.decided_by <> l.reviewer_id
        WHERE l.choice IN ('a', 'b', 'tie', 'both_bad', 'ranked') AND l.source <> 'feedback'
        ORDER BY l.created_at DESC, l.id DESC
        LIMIT :most
    )
    SELECT * FROM judged ORDER BY created_at, id
""")


def judgements(db: Session, project: Project, *, most: int = MOST_JUDGEMENTS) -> Judgements:
    """Everybody's latest word on every pair, surplus and set-aside votes too; feedback of API clients is not here."""
    rows = db.execute(_JUDGEMENTS, {"project": project.id, "most": most}).mappings().all()
    reviewers: dict[UUID, int] = {}
    pairs: dict[UUID, int] = {}
    first: dict[tuple[UUID, UUID], int] = {}
    table: list[tuple[int, ...]] = []
    seconds, at = [], []
    for number, row in enumerate(rows):
        choice, left = _choice_and_left(row)
        earlier = UNKNOWN
        if row["source_id"] is not None:
            earlier = first.get((row["reviewer_id"], row["source_id"]), UNKNOWN)
            if earlier == UNKNOWN:  # the first judgement lies before those that are read, or was taken back
                choice = -2
        else:
            first[row["reviewer_id"], row["comparison_id"]] = number
        table.append(
            (
                reviewers.setdefault(row["reviewer_id"], len(reviewers)),
                pairs.setdefault(row["pair"], len(pairs)),
                choice,
                left,
                UNKNOWN if row["answer"] is None else _CHOICES[row["answer"]],
                int(row["purpose"] == "attention"),
                earlier,
                row["length_a"],
                row["length_b"],
                UNKNOWN if row["settled"] is None else _CHOICES[row["settled"]],
            )
        )
        seconds.append(np.nan if row["seconds"] is None else row["seconds"])
        at.append(row["created_at"].timestamp())
    columns = np.array(table, dtype=np.int64).reshape(len(table), 10).T
    found = Judgements(
        reviewer=columns[0],
        pair=columns[1],
        choice=columns[2],
        left=columns[3],
        gold=columns[4],
        attention=columns[5].astype(bool),
        repeat_of=columns[6],
        seconds=np.array(seconds, dtype=float),
        length_a=columns[7],
        length_b=columns[8],
        at=np.array(at, dtype=float),
        reviewers=tuple(reviewers),
        settled=columns[9],
    )
    return found.rows(found.choice >= 0)


def _choice_and_left(row: Any) -> tuple[int, int]:
    if row["choice"] != "ranked":
        return _CHOICES[row["choice"]], _CHOICES[row["left_side"]]
    tier = {position: place for place, tier in enumerate(row["ranking"]) for position in tier}
    choice = 2 if tier[0] == tier[1] else int(tier[1] < tier[0])
    return choice, 0 if row["shown_order"].index(0) < row["shown_order"].index(1) else 1


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who reviews, or has."""

    id: UUID
    email: str
    name: str
    role: str | None
    """In the project; null for whoever left it, and for site admins."""
    qualification: str
    bar: Bar | None
    """What keeps their word from counting; null: nothing does."""
    daily_goal: int | None
    paused_at: datetime | None
    paused_reason: str | None
    set_aside: int
    """Unread votes that quarantine took out of the count."""
    left_out: int
    """Votes that a round has read, and that later ones leave out as long as the quarantine lasts."""
    today: int
    """Pairs judged since midnight UTC."""


_PEOPLE = text(f"""
    SELECT u.id, u.email, u.name, m.role, coalesce(st.qualification, 'open') AS qualification, st.daily_goal,
           {bar_sql("u.id")} AS bar,
           st.paused_at, st.paused_reason,
           (SELECT count(*) FROM assignments a
            WHERE a.project_id = :project AND a.reviewer_id = u.id AND a.state = 'set_aside') AS set_aside,
           CASE WHEN st.paused_at IS NULL THEN 0 ELSE (
             SELECT count(*) FROM assignments a JOIN comparisons c ON c.id = a.comparison_id AND c.purpose = 'work'
             WHERE a.project_id = :project AND a.reviewer_id = u.id AND a.state = 'voted' AND a.frozen_at IS NOT NULL
           ) END AS left_out,
           (SELECT count(*) FROM assignments a
            WHERE a.project_id = :project AND a.reviewer_id = u.id AND a.state IN ('voted', 'surplus', 'set_aside')
              AND EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = a.id
                          AND v.created_at >= date_trunc('day', now(), 'UTC'))) AS today
    FROM users u
    LEFT JOIN memberships m ON m.user_id = u.id AND m.project_id = :project
    LEFT JOIN standings st ON st.reviewer_id = u.id AND st.project_id = :project
    WHERE (m.user_id IS NOT NULL OR st.reviewer_id IS NOT NULL
           OR EXISTS (SELECT 1 FROM votes v WHERE v.reviewer_id = u.id AND v.project_id = :project))
      AND (CAST(:only AS uuid) IS NULL OR u.id = :only)
    ORDER BY u.email
""").bindparams(bindparam("asks", type_=Boolean))  # noqa: S608 - composed of constants


def people(db: Session, project: Project, *, only: UUID | None = None) -> list[Person]:
    """Members, and whoever judged without being one (any more); by address."""
    return [Person(**row) for row in db.execute(_PEOPLE, names(project) | {"only": only}).mappings()]


@dataclass(frozen=True, slots=True)
class Event:
    """Something an admin, or the system, did about a reviewer."""

    at: datetime
    action: str
    actor: str | None
    """Address; null where the system itself acted."""
    data: dict[str, Any]


_EVENTS = text("""
    SELECT e.at, e.action, u.email AS actor, e.data
    FROM audit_log e LEFT JOIN users u ON u.id = e.actor_id
    WHERE e.project_id = :project AND e.subject = :subject AND e.action LIKE 'reviewer.%'
    ORDER BY e.at DESC
    LIMIT 100
""")


def events(db: Session, project: Project, reviewer_id: UUID) -> list[Event]:
    """What was decided about a reviewer, newest first."""
    names = {"project": project.id, "subject": f"user:{reviewer_id}"}
    return [Event(**row) for row in db.execute(_EVENTS, names).mappings()]


_FINGERPRINT = text("""
    SELECT count(*) AS votes, max(v.created_at) AS latest,
           (SELECT count(*) FROM controls k WHERE k.project_id = :project) AS controls,
           (SELECT count(*) FROM adjudications d WHERE d.project_id = :project) AS decisions,
           (SELECT max(d.withdrawn_at) FROM adjudications d WHERE d.project_id = :project) AS withdrawn,
           (SELECT max(st.paused_at) FROM standings st WHERE st.project_id = :project) AS paused,
           (SELECT count(*) FROM standings st WHERE st.project_id = :project AND st.paused_at IS NOT NULL) AS pauses
    FROM votes v WHERE v.project_id = :project
""")


def fingerprint(db: Session, project: Project) -> tuple[Any, ...]:
    """What the figures depend on: equal fingerprints, equal figures."""
    return tuple(db.execute(_FINGERPRINT, {"project": project.id}).one())
