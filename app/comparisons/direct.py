"""A vote on a pair that its reviewer had before them, blind, before it was a comparison: the playground's."""

from datetime import datetime, timedelta
from random import Random
from typing import Literal
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.comparisons import changes, wake
from app.comparisons.dwell import measured
from app.comparisons.locking import lock
from app.comparisons.records import Ballot, Choice
from app.comparisons.stock import create_comparison
from app.comparisons.writing import write
from app.db.tables import Assignment, Comparison, ComparisonSlot, Completion, Project

Kind = Literal["current", "previous", "candidate"]


def judge_directly(
    db: Session,
    *,
    project: Project,
    reviewer_id: UUID,
    left: Completion,
    right: Completion,
    choice: Choice,
    kind: Kind,
    seconds: float | None,
    shown_at: datetime,
    now: datetime,
    rng: Random,
) -> Comparison:
    """Make the comparison, give its first place to this reviewer, and store the choice in it, as seen.

    If the project asks for more votes, others are given the pair as any other. What somebody says who is kept from
    counting, or would have to qualify first, is kept as surplus, and the place goes to others.

    Raises:
        PairInvalidError: the answers cannot be compared (they read the same).
    """
    comparison = create_comparison(
        db,
        project=project,
        completion_a=left,
        completion_b=right,
        slots=project.votes_per_comparison,
        rng=rng,
        strategy="playground",
        now=now,
    )
    silent = {"synchronize_session": False}
    made = update(Comparison).where(Comparison.id == comparison.id)
    db.execute(made.values(first_left="a", kind=kind).execution_options(**silent))
    expires = now + timedelta(seconds=project.lease_seconds)
    mine = Assignment(
        project_id=project.id,
        comparison_id=comparison.id,
        reviewer_id=reviewer_id,
        slot=0,
        left_side="a",
        state="leased",
        leased_at=shown_at,
        shown_at=shown_at,
        expires_at=expires,
    )
    db.add(mine)
    db.flush()
    db.execute(
        update(ComparisonSlot)
        .where(ComparisonSlot.comparison_id == comparison.id, ComparisonSlot.slot == 0)
        .values(state="leased", assignment_id=mine.id, lease_expires_at=expires)
        .execution_options(**silent)
    )
    locked = lock(db, reviewer_id, mine.id, None, project.id)
    change = changes.put_aside(locked.place) if locked.bar else changes.vote(locked.place)
    ballot = measured(Ballot(choice, seconds=seconds), shown_at=shown_at, now=now)
    write(db, locked, change, reviewer_id=reviewer_id, ballot=ballot, key=None, source="web", now=now)
    if change.assignment_state == "voted":
        wake.round_if_due(db, project_id=project.id, every=project.round_every_votes)
    return comparison
