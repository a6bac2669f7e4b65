"""Votes: recorded once, changed by appending, taken back until a round has read them.

A first vote is three statements: lock the comparison and its slots, lock and read the reviewer's assignment, write
everything at once, if the idempotency key is new. Another one looks the key up before; a shortest look is one more.
Lock order as in ``leasing``: comparison → slot → assignment → look.
Whoever freezes votes must lock the assignments before reading the votes; then a change is either read or refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons import changes, wake
from app.comparisons.ballots import checked, same
from app.comparisons.dwell import measured, require_dwell
from app.comparisons.errors import (
    JudgedMeanwhileError,
    KeyReusedError,
    LeaseNotFoundError,
    NothingToUndoError,
    VersionsKnownError,
    VoteFrozenError,
)
from app.comparisons.holding import load_lease
from app.comparisons.locking import Locked, lock
from app.comparisons.qualifying import IDLE_VOTES
from app.comparisons.records import COUNTED, Ballot, Choice, Leased, Recorded, Source, VoteRecord, choice_of
from app.comparisons.rules import check_asked
from app.comparisons.writing import write
from app.db.base import utcnow
from app.db.direct import Direct, Row
from app.db.tables import Project
from app.lines import with_newlines
from app.projects.archived import ProjectArchivedError

_BY_KEY = Direct(text("SELECT * FROM votes WHERE reviewer_id = :reviewer AND idempotency_key = :key"))

# The answer that stands at a place of the page, for a pair or a ranking.
_TEXT_AT = text("""
    SELECT t.text FROM comparisons c
    LEFT JOIN comparison_items i ON i.comparison_id = c.id AND i.position = :position
    JOIN completions t ON t.id = CASE WHEN c.mode = 'ranking' THEN i.completion_id
                                      WHEN :position = 0 THEN c.completion_a_id ELSE c.completion_b_id END
    WHERE c.id = :comparison
""").bindparams(bindparam("position", type_=Integer))

_LAST = text("""
    SELECT v.assignment_id, v.comparison_id FROM votes v
    WHERE v.reviewer_id = :reviewer AND v.project_id = :project AND v.choice <> 'undone' AND v.source <> 'feedback'
      AND NOT EXISTS (
        SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision)
    ORDER BY v.created_at DESC, v.id DESC
    LIMIT 1
""")


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
    tags: Sequence[str] = (),
    criteria: Mapping[str, Any] | None = None,
    ranking: Sequence[Sequence[int]] | None = None,
    corrected: str | None = None,
    first: bool = False,
    source: Source,
    now: datetime | None = None,
) -> Recorded:
    """Store what a reviewer says of a comparison that was handed to them, named by lease or by comparison.

    Everything is as shown: 'a' is the left answer, 'b' the right one, a ``ranking`` is tiers of places on the page
    (0: the answer shown first), the best first. ``corrected`` is the reviewer's edit of the answer they prefer; one
    that changed nothing is none. A first vote fills the leased slot; a second one on the same comparison replaces the
    first (the history keeps both), unless it says that it is the ``first``: the page it comes from showed no other. A
    vote after the lease ran out takes a free slot, or is kept as surplus. 'skip' gives the slot back, 'flag' takes the
    comparison out of the queue.
    With a ``project_id``, nothing outside that project is found. The same ``idempotency_key`` with the same vote
    answers as it did the first time.

    Raises:
        VoteInvalidError: the parts of the vote do not fit together, or are not what the project asks for.
        LeaseNotFoundError: this reviewer never held that comparison.
        KeyReusedError: the key was sent before with a different vote.
        VoteFrozenError: a round has read the vote that this one would replace.
        JudgedMeanwhileError: there is a vote that this ``first`` one would replace.
        VersionsKnownError: the versions were shown after the vote that this one would replace.
        ProjectArchivedError: the project takes no votes.
        VoteTooFastError: the pair was looked at for less than the project asks for.
    """
    ballot = checked(
        Ballot(
            choice,
            strength=strength,
            comment=comment,
            reason=reason,
            seconds=seconds,
            tags=tuple(tags),
            criteria=criteria or {},
            ranking=None if ranking is None else tuple(map(tuple, ranking)),
            corrected=corrected,
        ),
        idempotency_key,
    )
    now = now or utcnow()
    locked = lock(db, reviewer_id, assignment_id, comparison_id, project_id)
    if ballot.corrected is not None:
        ballot = _without_idle_correction(db, locked, ballot)
    stored = _replay(db, reviewer_id, idempotency_key, locked, ballot)
    if stored:
        return stored
    _refuse_late(locked, choice, first=first)
    if not locked.judged and source != "feedback":
        require_dwell(
            db,
            ballot,
            reviewer_id=reviewer_id,
            handed_out_at=locked.handed_out_at,
            shown_at=locked.shown_at,
            now=now,
            min_seconds=locked.min_seconds,
        )
    ballot = measured(ballot, shown_at=locked.shown_at, now=now)
    if source != "feedback":  # an API client's own word was never asked for
        check_asked(ballot, locked.asks, mode=locked.mode, answers=len(locked.shown_order))
    rule = {"skip": changes.skip, "flag": changes.flag}.get(choice, changes.vote)
    change = changes.put_aside(locked.place) if locked.bar in IDLE_VOTES else rule(locked.place)
    row = write(db, locked, change, reviewer_id=reviewer_id, ballot=ballot, key=idempotency_key, source=source, now=now)
    if row is None:  # the key was used for another comparison
        raise KeyReusedError(idempotency_key or "")
    if change.assignment_state == "voted" and locked.revision == 0:
        wake.round_if_due(db, project_id=locked.project_id, every=locked.round_every_votes)
    return _recorded(row, replayed=False)


def _refuse_late(locked: Locked, choice: Choice, *, first: bool) -> None:
    """What has happened since the pair was shown may leave no room for another word on it."""
    if locked.archived:
        raise ProjectArchivedError
    if first and locked.latest not in (None, "undone"):
        raise JudgedMeanwhileError
    if locked.frozen:
        raise VoteFrozenError
    if locked.revealed and choice in COUNTED:
        raise VersionsKnownError


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
        ProjectArchivedError: the project takes no votes, and none back.
    """
    now = now or utcnow()
    locked = lock(db, reviewer_id, assignment_id, comparison_id, project_id)
    if locked.archived:
        raise ProjectArchivedError
    if locked.latest is None:
        raise NothingToUndoError
    if locked.latest != "undone":
        if locked.frozen:
            raise VoteFrozenError
        if locked.bar in IDLE_VOTES:
            change = changes.put_aside(locked.place, assignment_state="expired")
        else:
            change = changes.undo(locked.place, choice=locked.latest)
        write(db, locked, change, reviewer_id=reviewer_id, ballot=None, key=None, source=source, now=now)
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


def _without_idle_correction(db: Session, locked: Locked, ballot: Ballot) -> Ballot:
    """A correction that changed nothing is none."""
    place = ballot.best
    if place is None or place >= len(locked.shown_order):
        return ballot
    values = {"comparison": locked.comparison_id, "position": locked.shown_order[place]}
    original = db.execute(_TEXT_AT, values).scalar_one()
    unchanged = with_newlines(original).strip() == ballot.corrected
    return replace(ballot, corrected=None) if unchanged else ballot


def _replay(db: Session, reviewer_id: UUID, key: str | None, locked: Locked, ballot: Ballot) -> Recorded | None:
    if key is None or locked.revision == 0:  # sent before, it would have left a revision; writing looks at others' keys
        return None
    row = _BY_KEY.first(db, {"reviewer": reviewer_id, "key": key})
    if row is None:
        return None
    if row["assignment_id"] != locked.place.assignment_id or not same(
        ballot, row, left_side=locked.left_side, shown_order=locked.shown_order
    ):
        raise KeyReusedError(key)
    return _recorded(row, replayed=True)


def _recorded(row: Row, *, replayed: bool) -> Recorded:
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
