"""A comparison and a reviewer's assignment on it, locked: what a vote or an undoing may rely on until it commits.

Lock order as in ``leasing``: comparison → slot → assignment.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons import changes
from app.comparisons.errors import LeaseNotFoundError
from app.comparisons.qualifying import Bar, asks, bar_sql
from app.comparisons.records import Mode
from app.db.direct import Direct
from app.projects.queue import queue_of
from app.projects.reviewing import Reviewing, reviewing_of

_LOCK = Direct(
    text("""
    SELECT c.id AS comparison_id, c.project_id, c.first_left, c.state AS comparison_state, c.mode, c.strategy,
           s.slot, s.state, s.assignment_id, pr.lease_seconds, pr.round_every_votes, pr.reviewing, pr.queue,
           pr.archived_at IS NOT NULL AS archived
    FROM comparisons c
    JOIN comparison_slots s ON s.comparison_id = c.id
    JOIN projects pr ON pr.id = c.project_id
    WHERE c.id = coalesce(:comparison, (SELECT comparison_id FROM assignments WHERE id = :assignment))
    ORDER BY s.slot
    FOR NO KEY UPDATE OF c, s
""").bindparams(bindparam("comparison", type_=PG_UUID), bindparam("assignment", type_=PG_UUID))
)

# A new statement after the locks, so that it sees what whoever held them before has written.
_MINE = Direct(
    text(f"""
    SELECT a.id AS assignment_id, a.left_side, a.shown_order, a.state, a.frozen_at,
           coalesce(a.shown_at, a.leased_at) AS shown_at,
           CASE WHEN v.revision IS NULL THEN a.leased_at ELSE coalesce(a.shown_at, a.leased_at) END AS handed_out_at,
           {bar_sql("a.reviewer_id")} AS bar,
           EXISTS (
             SELECT 1 FROM votes said WHERE said.assignment_id = a.id
               AND said.choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')) AS judged,
           v.revision, v.shown_choice AS latest,
           EXISTS (
             SELECT 1 FROM assignments o JOIN votes f ON f.assignment_id = o.id AND f.choice = 'flag'
             JOIN comparisons c ON c.id = o.comparison_id
             WHERE o.comparison_id = a.comparison_id AND o.id <> a.id
               AND (c.flags_cleared_at IS NULL OR f.created_at > c.flags_cleared_at)
               AND NOT EXISTS (
                 SELECT 1 FROM votes later WHERE later.assignment_id = o.id AND later.revision > f.revision)
           ) AS others_flagged
    FROM assignments a
    LEFT JOIN standings st ON st.project_id = a.project_id AND st.reviewer_id = a.reviewer_id
    LEFT JOIN LATERAL (
        SELECT revision, shown_choice FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1
    ) v ON true
    WHERE a.comparison_id = :comparison AND a.reviewer_id = :reviewer
      AND a.state <> 'feedback' AND NOT EXISTS (
        SELECT 1 FROM votes f WHERE f.assignment_id = a.id AND f.source = 'feedback')
    FOR NO KEY UPDATE OF a
""").bindparams(bindparam("project", type_=PG_UUID), bindparam("asks", type_=Boolean))  # noqa: S608 - constants
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A comparison and a reviewer's assignment on it, both locked in this transaction."""

    project_id: UUID
    comparison_id: UUID
    lease_seconds: int
    round_every_votes: int | None
    asks: Reviewing
    mode: Mode
    left_side: str
    shown_order: list[int]
    """Positions of the items, in the order in which this reviewer saw them."""
    frozen: bool
    revision: int
    """Of the latest vote; 0 when there is none."""
    latest: str | None
    place: changes.Place
    revealed: bool
    """The reviewer was told the versions after their first choice (the playground does): no other would be blind."""
    bar: Bar | None
    """What keeps the reviewer's word from counting."""
    judged: bool
    """They have judged it before, whatever they said since: a skip is no judgement."""
    handed_out_at: datetime
    """When the reviewer could look at it first, though another pair may have been in hand still; for one that was
    skipped or taken back, when it was shown for that."""
    shown_at: datetime
    """When the reviewer was given it to look at."""
    min_seconds: float
    """How long they have to look before a choice is taken."""
    archived: bool
    """The project takes no votes."""


def lock(
    db: Session, reviewer_id: UUID, assignment_id: UUID | None, comparison_id: UUID | None, project_id: UUID | None
) -> Locked:
    """Lock the comparison that an id of the reviewer's assignment, or of itself, names.

    Raises:
        LeaseNotFoundError: it was never handed to this reviewer, or is not of the project that is given.
    """
    if assignment_id is None and comparison_id is None:
        raise ValueError("name the comparison or the assignment; both are missing")
    rows = _LOCK.all(db, {"comparison": comparison_id, "assignment": assignment_id})
    if not rows:
        raise LeaseNotFoundError
    first = rows[0]
    if project_id not in (None, first["project_id"]):
        raise LeaseNotFoundError
    queue, reviewing = queue_of(first["queue"]), reviewing_of(first["reviewing"])
    values = {"comparison": first["comparison_id"], "reviewer": reviewer_id, "project": first["project_id"]}
    values["asks"] = asks(queue, reviewing)
    mine = _MINE.first(db, values)
    if mine is None or assignment_id not in (None, mine["assignment_id"]):
        raise LeaseNotFoundError
    place = changes.Place(
        comparison_state=first["comparison_state"],
        slots=[changes.Slot(row["slot"], row["state"], row["assignment_id"]) for row in rows],
        assignment_id=mine["assignment_id"],
        mirrored=mine["left_side"] != first["first_left"],
        others_flagged=mine["others_flagged"],
    )
    return Locked(
        project_id=first["project_id"],
        comparison_id=first["comparison_id"],
        lease_seconds=first["lease_seconds"],
        round_every_votes=first["round_every_votes"],
        asks=reviewing,
        mode=first["mode"],
        left_side=mine["left_side"],
        shown_order=mine["shown_order"] or ([0, 1] if mine["left_side"] == "a" else [1, 0]),
        frozen=mine["frozen_at"] is not None,
        revision=mine["revision"] or 0,
        latest=mine["latest"],
        place=place,
        revealed=first["strategy"] == "playground" and bool(mine["revision"]),
        bar=mine["bar"],
        judged=mine["judged"],
        handed_out_at=mine["handed_out_at"],
        shown_at=mine["shown_at"],
        min_seconds=queue.min_seconds,
        archived=first["archived"],
    )
