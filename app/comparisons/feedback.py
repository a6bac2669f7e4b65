"""An API client's own preference between two answers it was given: a vote of the source 'feedback'.

It is not blind and was not asked for, so it takes no place among the votes a comparison asks for (its assignment has
the state 'feedback'), unless the project says 'count': then it fills a free place, as a reviewer's vote does. Like
any vote it is appended to, never overwritten, and fixed once a round has read it. Lock order: comparison → slot →
assignment.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.comparisons import wake
from app.comparisons.ballots import checked
from app.comparisons.errors import KeyReusedError, PairInvalidError, VoteFrozenError
from app.comparisons.qualifying import uses_feedback
from app.comparisons.records import Ballot, Choice, meant_of, shown_of
from app.comparisons.rules import check_no_strength
from app.db.base import utcnow
from app.db.ids import blurred_id, new_id
from app.db.tables import Assignment, Comparison, ComparisonSlot, Completion, Project, Vote
from app.errors import ConflictError
from app.language import _
from app.projects.archived import refuse_archived
from app.projects.reviewing import reviewing_of

NO_SLOT = -1
"""``assignments.slot`` of feedback that has no place."""
_OWN_STATES = ("feedback", "voted", "surplus", "set_aside")
"""Of assignments that feedback made."""


class PairInReviewError(ConflictError):
    """The person has this very pair as a reviewer."""

    code = "pair_in_review"
    title = _("You judge this pair as a reviewer")

    def __init__(self) -> None:
        super().__init__(
            _("This pair was handed to you for reviewing, where it is blind."), mend=_("Vote on it there, or leave it.")
        )


@dataclass(frozen=True, slots=True)
class Preferred:
    """What was stored of a preference."""

    vote: Vote
    counted: bool
    """It fills a place among the votes that the comparison asks for."""
    replayed: bool


def record_feedback(
    db: Session,
    *,
    project: Project,
    user_id: UUID,
    a: Completion,
    b: Completion,
    choice: Choice,
    strength: int | None = None,
    comment: str | None = None,
    idempotency_key: str | None = None,
    now: datetime | None = None,
) -> Preferred:
    """Store that somebody prefers ``a`` or ``b``, or neither. Saying it again changes it; the history keeps both.

    Raises:
        VoteInvalidError: the parts do not fit together, or say how much better where the project does not ask.
        PairInvalidError: not two different answers to one prompt.
        KeyReusedError: the key was sent before with something else.
        PairInReviewError: the pair is this person's to judge blind.
        VoteFrozenError: a round has read what this would replace.
        ProjectArchivedError: the project takes no votes.
    """
    now = now or utcnow()
    ballot = checked(Ballot(choice, strength=strength, comment=comment), idempotency_key)
    if reviewing_of(project.reviewing).scale != "strength":
        check_no_strength(ballot.strength)
    if a.prompt_id != b.prompt_id:
        raise PairInvalidError(
            _("The answers are to different prompts."), mend=_("Compare answers to one conversation.")
        )
    if a.id == b.id or a.text == b.text:
        raise PairInvalidError(_("The answers read the same."), mend=_("Compare answers that differ."))
    comparison = _comparison(db, project, a, b, now)
    left = "a" if comparison.completion_a_id == a.id else "b"
    meant = meant_of(choice, left)
    stored = _stored(db, user_id, idempotency_key)
    if stored is not None:
        if (stored.comparison_id, stored.choice, stored.strength, stored.comment) != (
            comparison.id, meant, ballot.strength, ballot.comment
        ):  # fmt: skip
            raise KeyReusedError(idempotency_key or "")
        return Preferred(stored, counted=_has_place(db, stored.assignment_id), replayed=True)
    refuse_archived(project)
    mine, revision = _mine(db, project, comparison, user_id, left, now)
    vote = db.scalars(
        insert(Vote)
        .values(
            id=new_id(),
            project_id=project.id,
            comparison_id=comparison.id,
            assignment_id=mine.id,
            reviewer_id=user_id,
            revision=revision,
            choice=meant,
            shown_choice=shown_of(choice if mine.left_side == left else _turned(choice)),
            strength=ballot.strength,
            comment=ballot.comment,
            criteria={},
            surplus=mine.state == "surplus",
            source="feedback",
            idempotency_key=idempotency_key,
            created_at=now,
        )
        .on_conflict_do_nothing(
            index_elements=["reviewer_id", "idempotency_key"], index_where=text("idempotency_key IS NOT NULL")
        )
        .returning(Vote)
    ).one_or_none()
    if vote is None:  # the key was used for another pair while this one was being locked
        raise KeyReusedError(idempotency_key or "")
    if mine.state == "voted" and revision == 1:
        wake.round_if_due(db, project_id=project.id, every=project.round_every_votes)
    return Preferred(vote, counted=mine.state == "voted", replayed=False)


def _comparison(db: Session, project: Project, a: Completion, b: Completion, now: datetime) -> Comparison:
    """The pair's comparison, locked; one that no reviewer is asked about is made where there is none."""
    db.execute(
        insert(Comparison)
        .values(
            id=blurred_id(),
            project_id=project.id,
            prompt_id=a.prompt_id,
            completion_a_id=a.id,
            completion_b_id=b.id,
            state="complete",
            first_left="a",
            strategy="feedback",
            closed_at=now,
        )
        .on_conflict_do_nothing()
    )
    pair = [a.id, b.id]
    query = select(Comparison).where(
        Comparison.mode == "pair",
        Comparison.purpose == "work",
        Comparison.completion_a_id.in_(pair),
        Comparison.completion_b_id.in_(pair),
    )
    return db.scalars(query.with_for_update(key_share=True), execution_options={"populate_existing": True}).one()


def _stored(db: Session, user_id: UUID, key: str | None) -> Vote | None:
    if key is None:
        return None
    return db.scalar(select(Vote).where(Vote.reviewer_id == user_id, Vote.idempotency_key == key))


def _has_place(db: Session, assignment_id: UUID) -> bool:
    return db.scalar(select(Assignment.state).where(Assignment.id == assignment_id)) == "voted"


def _mine(
    db: Session, project: Project, comparison: Comparison, user_id: UUID, left: str, now: datetime
) -> tuple[Assignment, int]:
    """This person's assignment on the pair, made where there is none, and the number of the revision to come."""
    place = _free_place(db, project, comparison)
    query = select(Assignment).where(
        Assignment.comparison_id == comparison.id, Assignment.reviewer_id == user_id
    )  # fmt: skip
    mine = db.scalar(query.with_for_update(key_share=True), execution_options={"populate_existing": True})
    if mine is not None:
        latest = db.scalar(select(Vote).where(Vote.assignment_id == mine.id).order_by(Vote.revision.desc()).limit(1))
        if latest is None or latest.source != "feedback" or mine.state not in _OWN_STATES:
            raise PairInReviewError
        if mine.frozen_at is not None:
            raise VoteFrozenError
        return mine, latest.revision + 1
    # What is kept and not used takes no place; rounds leave it out until its person is released or let through.
    state = "voted" if place is not None and uses_feedback(db, project, user_id) else "feedback"
    mine = Assignment(
        project_id=project.id,
        comparison_id=comparison.id,
        reviewer_id=user_id,
        slot=NO_SLOT if state != "voted" or place is None else place,
        left_side=left,
        state=state,
        leased_at=now,
        shown_at=now,
        expires_at=now,
    )
    db.add(mine)
    db.flush()
    if state == "voted":
        _fill(db, comparison, mine, now)
    return mine, 1


def _free_place(db: Session, project: Project, comparison: Comparison) -> int | None:
    """Where the project counts feedback: a free slot, or the only one of a pair made for it. Slots are locked."""
    if project.feedback != "count":
        return None
    slots = db.scalars(
        select(ComparisonSlot)
        .where(ComparisonSlot.comparison_id == comparison.id)
        .order_by(ComparisonSlot.slot)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).all()
    if not slots:
        values: dict[str, Any] = {"comparison_id": comparison.id, "slot": 0, "project_id": project.id, "queue_key": 0.0}
        db.execute(insert(ComparisonSlot).values(**values, state="closed"))
        return 0
    if comparison.state != "open":
        return None
    return next((slot.slot for slot in slots if slot.state == "free"), None)


def _fill(db: Session, comparison: Comparison, mine: Assignment, now: datetime) -> None:
    """The slot becomes this assignment's; the last one completes the comparison."""
    here = ComparisonSlot.comparison_id == comparison.id
    silent = {"synchronize_session": False}
    db.execute(
        update(ComparisonSlot)
        .where(here, ComparisonSlot.slot == mine.slot)
        .values(state="voted", assignment_id=mine.id, lease_expires_at=None)
        .execution_options(**silent)
    )
    states = set(db.scalars(select(ComparisonSlot.state).where(here)))
    if states == {"voted"}:
        db.execute(
            update(Comparison)
            .where(Comparison.id == comparison.id, Comparison.state == "open")
            .values(state="complete", closed_at=now)
            .execution_options(**silent)
        )


def _turned(choice: Choice) -> Choice:
    """The same choice with the sides named the other way round."""
    return {"a": "b", "b": "a"}.get(choice, choice)  # type: ignore[return-value]
