"""Votes: recorded once, changed by appending, taken back until a round has read them.

A vote is four statements: lock the comparison and its slots, lock and read the reviewer's assignment, check the
idempotency key, write everything at once. Lock order as in ``leasing``: comparison → slot → assignment.
Whoever freezes votes must lock the assignments before reading the votes; then a change is either read or refused.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons import changes, wake
from app.comparisons.ballots import checked, same
from app.comparisons.errors import KeyReusedError, LeaseNotFoundError, NothingToUndoError, VoteFrozenError
from app.comparisons.leasing import load_lease
from app.comparisons.records import (
    COUNTED,
    Ballot,
    Choice,
    Leased,
    Recorded,
    Source,
    VoteRecord,
    choice_of,
    meant_of,
    shown_of,
)
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Project

_LOCK = text("""
    SELECT c.id AS comparison_id, c.project_id, c.first_left, c.state AS comparison_state,
           s.slot, s.state, s.assignment_id, pr.lease_seconds, pr.round_every_votes
    FROM comparisons c
    JOIN comparison_slots s ON s.comparison_id = c.id
    JOIN projects pr ON pr.id = c.project_id
    WHERE c.id = coalesce(:comparison, (SELECT comparison_id FROM assignments WHERE id = :assignment))
    ORDER BY s.slot
    FOR NO KEY UPDATE OF c, s
""").bindparams(bindparam("comparison", type_=PG_UUID), bindparam("assignment", type_=PG_UUID))

# A new statement after the locks, so that it sees what whoever held them before has written.
_MINE = text("""
    SELECT a.id AS assignment_id, a.left_side, a.state, a.frozen_at,
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
    LEFT JOIN LATERAL (
        SELECT revision, shown_choice FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1
    ) v ON true
    WHERE a.comparison_id = :comparison AND a.reviewer_id = :reviewer
    FOR NO KEY UPDATE OF a
""")

_BY_KEY = text("SELECT * FROM votes WHERE reviewer_id = :reviewer AND idempotency_key = :key")

# The key decides first: if another transaction has used it meanwhile, nothing is written at all.
_WRITE = text("""
    WITH vote AS (
        INSERT INTO votes (id, project_id, comparison_id, assignment_id, reviewer_id, revision, choice, shown_choice,
                           strength, comment, reason, criteria, surplus, seconds, source, idempotency_key, created_at)
        VALUES (:id, :project, :comparison, :assignment, :reviewer, :revision, :choice, :shown_choice,
                :strength, :comment, :reason, '{}', :surplus, :seconds, :source, :key, :now)
        ON CONFLICT (reviewer_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING *
    ), mine AS (
        UPDATE assignments
        SET state = :assignment_state, slot = coalesce(:take, slot),
            leased_at = CASE WHEN :assignment_state = 'leased' THEN :now ELSE leased_at END,
            shown_at = CASE WHEN :assignment_state = 'leased' OR shown_at IS NULL THEN :now ELSE shown_at END,
            expires_at = coalesce(:expires, expires_at)
        WHERE id = :assignment AND EXISTS (SELECT 1 FROM vote)
    ), taken AS (
        UPDATE comparison_slots
        SET state = :take_as, assignment_id = :assignment,
            lease_expires_at = CASE WHEN :take_as = 'leased' THEN :expires END
        WHERE comparison_id = :comparison AND slot = :take AND EXISTS (SELECT 1 FROM vote)
    ), released AS (
        UPDATE comparison_slots SET state = :release_as, assignment_id = NULL, lease_expires_at = NULL
        WHERE comparison_id = :comparison AND slot = ANY(:release) AND EXISTS (SELECT 1 FROM vote)
    ), closed AS (
        UPDATE comparisons
        SET state = :comparison_state,
            closed_at = CASE WHEN :comparison_state <> 'open' THEN CAST(:now AS timestamptz) END
        WHERE id = :comparison AND state <> :comparison_state AND EXISTS (SELECT 1 FROM vote)
    )
    SELECT * FROM vote
""").bindparams(bindparam("release", type_=ARRAY(Integer)), bindparam("take", type_=Integer))

_LAST = text("""
    SELECT v.assignment_id, v.comparison_id FROM votes v
    WHERE v.reviewer_id = :reviewer AND v.project_id = :project AND v.choice <> 'undone'
      AND NOT EXISTS (
        SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision)
    ORDER BY v.created_at DESC, v.id DESC
    LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class _Locked:
    """A comparison and a reviewer's assignment on it, both locked in this transaction."""

    project_id: UUID
    comparison_id: UUID
    lease_seconds: int
    round_every_votes: int | None
    left_side: str
    frozen: bool
    revision: int
    """Of the latest vote; 0 when there is none."""
    latest: str | None
    place: changes.Place


def record_vote(
    db: Session,
    *,
    reviewer_id: UUID,
    choice: Choice,
    assignment_id: UUID | None = None,
    comparison_id: UUID | None = None,
    project_id: UUID | None = None,
    idempotency_key: str | None = None,
    strength: int | None = None,
    comment: str | None = None,
    reason: str | None = None,
    seconds: float | None = None,
    source: Source,
    now: datetime | None = None,
) -> Recorded:
    """Store what a reviewer says of a comparison that was handed to them, named by lease or by comparison.

    ``choice`` is as shown: 'a' the left answer, 'b' the right one. A first vote fills the leased slot; a second
    one on the same comparison replaces the first (the history keeps both). A vote after the lease ran out takes a
    free slot, or is kept as surplus. 'skip' gives the slot back, 'flag' takes the comparison out of the queue.
    With a ``project_id``, nothing outside that project is found. The same ``idempotency_key`` with the same vote
    answers as it did the first time.

    Raises:
        VoteInvalidError: the parts of the vote do not fit together.
        LeaseNotFoundError: this reviewer never held that comparison.
        KeyReusedError: the key was sent before with a different vote.
        VoteFrozenError: a round has read the vote that this one would replace.
    """
    ballot = checked(
        Ballot(choice, strength=strength, comment=comment, reason=reason, seconds=seconds), idempotency_key
    )
    now = now or utcnow()
    locked = _lock(db, reviewer_id, assignment_id, comparison_id, project_id)
    stored = _replay(db, reviewer_id, idempotency_key, locked, ballot)
    if stored:
        return stored
    if locked.frozen:
        raise VoteFrozenError
    rule = {"skip": changes.skip, "flag": changes.flag}.get(choice, changes.vote)
    change = rule(locked.place)
    row = _write(
        db, locked, change, reviewer_id=reviewer_id, ballot=ballot, key=idempotency_key, source=source, now=now
    )
    if row is None:  # the key was used for another comparison while this one was being locked
        raise KeyReusedError(idempotency_key or "")
    if change.assignment_state == "voted" and locked.revision == 0:
        wake.round_if_due(db, project_id=locked.project_id, every=locked.round_every_votes)
    return _recorded(row, replayed=False)


def undo_vote(
    db: Session,
    *,
    reviewer_id: UUID,
    assignment_id: UUID | None = None,
    comparison_id: UUID | None = None,
    project_id: UUID | None = None,
    source: Source = "web",
    now: datetime | None = None,
) -> Leased:
    """Take back what the reviewer said of one comparison; it is theirs to judge again. Twice is once.

    Raises:
        LeaseNotFoundError: this reviewer never held that comparison.
        NothingToUndoError: nothing was said of it yet.
        VoteFrozenError: a round has read the vote.
    """
    now = now or utcnow()
    locked = _lock(db, reviewer_id, assignment_id, comparison_id, project_id)
    if locked.latest is None:
        raise NothingToUndoError
    if locked.latest != "undone":
        if locked.frozen:
            raise VoteFrozenError
        change = changes.undo(locked.place, choice=locked.latest)
        _write(db, locked, change, reviewer_id=reviewer_id, ballot=None, key=None, source=source, now=now)
    leased = load_lease(db, reviewer_id=reviewer_id, assignment_id=locked.place.assignment_id)
    if leased is None:
        raise LeaseNotFoundError
    return leased


def undo_last(
    db: Session, *, project: Project, reviewer_id: UUID, source: Source = "web", now: datetime | None = None
) -> Leased:
    """Take back the reviewer's latest choice in the project that was not taken back already.

    Raises:
        NothingToUndoError: there is none.
        VoteFrozenError: a round has read it.
    """
    last = db.execute(_LAST, {"reviewer": reviewer_id, "project": project.id}).one_or_none()
    if last is None:
        raise NothingToUndoError
    return undo_vote(db, reviewer_id=reviewer_id, assignment_id=last.assignment_id, source=source, now=now)


def _lock(
    db: Session, reviewer_id: UUID, assignment_id: UUID | None, comparison_id: UUID | None, project_id: UUID | None
) -> _Locked:
    if assignment_id is None and comparison_id is None:
        raise ValueError("name the comparison or the assignment; both are missing")
    rows = db.execute(_LOCK, {"comparison": comparison_id, "assignment": assignment_id}).mappings().all()
    if not rows:
        raise LeaseNotFoundError
    first = rows[0]
    if project_id not in (None, first["project_id"]):
        raise LeaseNotFoundError
    values = {"comparison": first["comparison_id"], "reviewer": reviewer_id}
    mine = db.execute(_MINE, values).mappings().one_or_none()
    if mine is None or assignment_id not in (None, mine["assignment_id"]):
        raise LeaseNotFoundError
    place = changes.Place(
        comparison_state=first["comparison_state"],
        slots=[changes.Slot(row["slot"], row["state"], row["assignment_id"]) for row in rows],
        assignment_id=mine["assignment_id"],
        mirrored=mine["left_side"] != first["first_left"],
        others_flagged=mine["others_flagged"],
    )
    return _Locked(
        project_id=first["project_id"],
        comparison_id=first["comparison_id"],
        lease_seconds=first["lease_seconds"],
        round_every_votes=first["round_every_votes"],
        left_side=mine["left_side"],
        frozen=mine["frozen_at"] is not None,
        revision=mine["revision"] or 0,
        latest=mine["latest"],
        place=place,
    )


def _replay(db: Session, reviewer_id: UUID, key: str | None, locked: _Locked, ballot: Ballot) -> Recorded | None:
    if key is None:
        return None
    row = db.execute(_BY_KEY, {"reviewer": reviewer_id, "key": key}).mappings().one_or_none()
    if row is None:
        return None
    if row["assignment_id"] != locked.place.assignment_id or not same(ballot, row):
        raise KeyReusedError(key)
    return _recorded(row, replayed=True)


def _write(
    db: Session,
    locked: _Locked,
    change: changes.Change,
    *,
    reviewer_id: UUID,
    ballot: Ballot | None,
    key: str | None,
    source: Source,
    now: datetime,
) -> RowMapping | None:
    """Write the vote (``None``: an undoing) and what it changes; null when the key was taken meanwhile."""
    leased = change.assignment_state == "leased"
    values: dict[str, Any] = {
        "id": new_id(),
        "project": locked.project_id,
        "comparison": locked.comparison_id,
        "assignment": locked.place.assignment_id,
        "reviewer": reviewer_id,
        "revision": locked.revision + 1,
        "choice": meant_of(ballot.choice, locked.left_side) if ballot else "undone",
        "shown_choice": shown_of(ballot.choice) if ballot else "undone",
        "strength": ballot.strength if ballot else None,
        "comment": ballot.comment if ballot else None,
        "reason": ballot.reason if ballot else None,
        "seconds": ballot.seconds if ballot else None,
        "surplus": change.surplus,
        "source": source,
        "key": key,
        "now": now,
        "expires": now + timedelta(seconds=locked.lease_seconds) if leased else None,
        "assignment_state": change.assignment_state,
        "comparison_state": change.comparison_state,
        "take": change.take,
        "take_as": change.take_as,
        "release": list(change.release),
        "release_as": change.release_as,
    }
    return db.execute(_WRITE, values).mappings().one_or_none()


def _recorded(row: RowMapping, *, replayed: bool) -> Recorded:
    choice = choice_of(row["shown_choice"])
    record = VoteRecord(
        id=row["id"],
        assignment_id=row["assignment_id"],
        comparison_id=row["comparison_id"],
        revision=row["revision"],
        choice=choice,
        strength=row["strength"],
        comment=row["comment"],
        reason=row["reason"],
        created_at=row["created_at"],
    )
    return Recorded(record, counted=choice in COUNTED and not row["surplus"], surplus=row["surplus"], replayed=replayed)
