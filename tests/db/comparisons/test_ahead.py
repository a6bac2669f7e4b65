"""One comparison more, leased behind the one in hand, so that the next is on the page at once."""

import random
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.comparisons.errors import VoteTooFastError
from app.comparisons.records import Choice
from app.comparisons.service import (
    expire_leases,
    lease_ahead,
    lease_next,
    record_vote,
    show_lease,
    undo_vote,
)
from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import Assignment, ComparisonSlot
from tests.factories.rows import make_comparison, make_project, make_user
from tests.factories.threads import at_once


def test_it_is_another_one_and_stays_behind_the_one_in_hand(db: Session) -> None:
    project = make_project(db)
    first, second, third = (make_comparison(db, project) for _ in range(3))
    me = make_user(db).id
    hand = lease_next(db, project=project, reviewer_id=me)
    assert hand is not None
    ahead = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id)
    again = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id)
    assert ahead is not None
    assert again is not None
    assert (hand.comparison_id, ahead.comparison_id, again.comparison_id) == (first.id, second.id, second.id)
    reloaded = lease_next(db, project=project, reviewer_id=me)
    assert reloaded is not None
    assert reloaded.assignment_id == hand.assignment_id, "what was shown comes before what only waits"
    record_vote(db, reviewer_id=me, assignment_id=hand.assignment_id, choice="a", source="web")
    following = lease_next(db, project=project, reviewer_id=me)
    assert following is not None
    assert following.assignment_id == ahead.assignment_id
    assert lease_ahead(db, project=project, reviewer_id=me, holding=ahead.assignment_id).comparison_id == third.id


def test_its_time_begins_when_it_is_shown(db: Session) -> None:
    project = make_project(db, lease_seconds=100)
    for _ in range(2):
        make_comparison(db, project)
    me, start = make_user(db).id, utcnow()
    hand = lease_next(db, project=project, reviewer_id=me, now=start)
    ahead = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id, now=start)
    later = start + timedelta(seconds=90)
    assert show_lease(db, project=project, reviewer_id=me, assignment_id=ahead.assignment_id, now=later)
    assert not show_lease(db, project=project, reviewer_id=me, assignment_id=ahead.assignment_id, now=later)
    db.expire_all()
    row = db.get_one(Assignment, ahead.assignment_id)
    slot = db.scalars(select(ComparisonSlot).where(ComparisonSlot.assignment_id == ahead.assignment_id)).one()
    assert row.expires_at == slot.lease_expires_at == later + timedelta(seconds=100)
    assert expire_leases(db, now=start + timedelta(seconds=150)) == 1, "only the one that was never judged in its time"


def test_it_takes_a_slot_and_gives_it_back_like_any_lease(db: Session) -> None:
    project = make_project(db, lease_seconds=100)
    for _ in range(2):
        make_comparison(db, project)
    me, other, start = make_user(db).id, make_user(db).id, utcnow()
    hand = lease_next(db, project=project, reviewer_id=me, now=start)
    ahead = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id, now=start)
    assert lease_next(db, project=project, reviewer_id=other, now=start) is None, "both places are taken"
    late = start + timedelta(seconds=101)
    taken = {lease_next(db, project=project, reviewer_id=other, now=late).comparison_id}
    taken.add(
        lease_ahead(
            db,
            project=project,
            reviewer_id=other,
            holding=lease_next(db, project=project, reviewer_id=other, now=late).assignment_id,
            now=late,
        ).comparison_id
    )
    assert taken == {hand.comparison_id, ahead.comparison_id}
    assert not show_lease(db, project=project, reviewer_id=me, assignment_id=ahead.assignment_id, now=late)
    recorded = record_vote(db, reviewer_id=me, assignment_id=ahead.assignment_id, choice="a", source="web", now=late)
    assert recorded.surplus, "others hold the place: kept, and never one vote too many"


def test_nobody_elses_can_be_shown(db: Session) -> None:
    project = make_project(db)
    for _ in range(2):
        make_comparison(db, project)
    me, other = make_user(db).id, make_user(db).id
    hand = lease_next(db, project=project, reviewer_id=me)
    ahead = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id)
    assert not show_lease(db, project=project, reviewer_id=other, assignment_id=ahead.assignment_id)
    assert not show_lease(db, project=make_project(db), reviewer_id=me, assignment_id=ahead.assignment_id)


def test_a_choice_taken_back_comes_before_what_waits(db: Session) -> None:
    project = make_project(db)
    for _ in range(3):
        make_comparison(db, project)
    me = make_user(db).id
    hand = lease_next(db, project=project, reviewer_id=me)
    ahead = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id)
    record_vote(db, reviewer_id=me, assignment_id=hand.assignment_id, choice="a", source="web")
    show_lease(db, project=project, reviewer_id=me, assignment_id=ahead.assignment_id)
    third = lease_ahead(db, project=project, reviewer_id=me, holding=ahead.assignment_id)
    undo_vote(db, reviewer_id=me, assignment_id=hand.assignment_id)
    assert lease_next(db, project=project, reviewer_id=me).assignment_id == hand.assignment_id
    behind = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id)
    assert behind.assignment_id == ahead.assignment_id
    assert third.assignment_id not in (hand.assignment_id, ahead.assignment_id)
    record_vote(db, reviewer_id=me, assignment_id=hand.assignment_id, choice="b", source="web")
    assert lease_next(db, project=project, reviewer_id=me).assignment_id == ahead.assignment_id


def test_the_next_but_one_is_asked_for_while_the_next_is_shown(db: Session) -> None:
    """As the page does: one statement shows the pair that waited and looks for what waits behind it."""
    project = make_project(db, lease_seconds=100)
    for _ in range(3):
        make_comparison(db, project)
    me, start = make_user(db).id, utcnow()
    hand = lease_next(db, project=project, reviewer_id=me, now=start)
    second = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id, now=start)
    record_vote(db, reviewer_id=me, assignment_id=hand.assignment_id, choice="a", source="web")
    seen, later = start + timedelta(seconds=40), start + timedelta(seconds=41)
    asked = {"project": project, "reviewer_id": me, "holding": second.assignment_id, "showing_since": seen}
    third = lease_ahead(db, **asked, now=later)
    again = lease_ahead(db, **asked | {"showing_since": later}, now=later)
    assert third.comparison_id not in (hand.comparison_id, second.comparison_id)
    assert again.assignment_id == third.assignment_id
    db.expire_all()
    shown, waits = (db.get_one(Assignment, lease.assignment_id) for lease in (second, third))
    assert (shown.shown_at, shown.expires_at) == (seen, seen + timedelta(seconds=100)), "shown once, not anew"
    assert waits.shown_at is None
    slot = db.scalars(select(ComparisonSlot).where(ComparisonSlot.assignment_id == second.assignment_id)).one()
    assert slot.lease_expires_at == shown.expires_at


def test_nothing_was_seen_before_it_was_handed_out(db: Session) -> None:
    """A page that claims to have shown the next pair for a minute, right after that was leased, is not believed."""
    project = make_project(db, lease_seconds=100, queue={"min_seconds": 4})
    for _ in range(3):
        make_comparison(db, project)
    me, start = make_user(db).id, utcnow()
    hand = lease_next(db, project=project, reviewer_id=me, now=start)
    second = lease_ahead(db, project=project, reviewer_id=me, holding=hand.assignment_id, now=start)
    soon = start + timedelta(seconds=0.1)
    record_vote(db, reviewer_id=me, assignment_id=hand.assignment_id, choice="skip", source="web", now=soon)
    claimed = soon - timedelta(seconds=60)
    lease_ahead(db, project=project, reviewer_id=me, holding=second.assignment_id, showing_since=claimed, now=soon)
    db.expire_all()
    row = db.get_one(Assignment, second.assignment_id)
    assert (row.shown_at, row.expires_at) == (start, start + timedelta(seconds=100))
    with pytest.raises(VoteTooFastError):
        record_vote(
            db, reviewer_id=me, assignment_id=second.assignment_id, choice="a", seconds=60.0, source="web", now=soon
        )


class Hands:
    """A reviewer of a project with a shortest look of 4 s, who may hold one pair behind another, as the page does."""

    def __init__(self, db: Session, *, pairs: int = 6) -> None:
        self.db = db
        self.project = make_project(db, lease_seconds=600, queue={"min_seconds": 4})
        for _ in range(pairs):
            make_comparison(db, self.project)
        self.me, self.start = make_user(db).id, utcnow()

    def at(self, after: float) -> datetime:
        return self.start + timedelta(seconds=after)

    def take(self, after: float) -> UUID:
        return lease_next(self.db, project=self.project, reviewer_id=self.me, now=self.at(after)).assignment_id

    def ahead(self, holding: UUID, after: float, *, showing_since: float | None = None) -> UUID:
        since = None if showing_since is None else self.at(showing_since)
        return lease_ahead(
            self.db,
            project=self.project,
            reviewer_id=self.me,
            holding=holding,
            showing_since=since,
            now=self.at(after),
        ).assignment_id

    def vote(self, lease: UUID, after: float, *, seconds: float | None = None, choice: Choice = "a") -> None:
        record_vote(
            self.db,
            reviewer_id=self.me,
            assignment_id=lease,
            choice=choice,
            seconds=seconds,
            source="web",
            now=self.at(after),
        )


def test_two_pairs_in_hand_at_once_are_not_looked_at_at_once(db: Session) -> None:
    mine = Hands(db)
    first = mine.take(0)
    second = mine.ahead(first, 0)
    mine.vote(first, 4)
    with pytest.raises(VoteTooFastError) as refused:
        mine.vote(second, 4.5, seconds=60)
    assert refused.value.extra == {"seconds": 0.5, "needed": 4}
    third = mine.ahead(second, 4.5, showing_since=0)
    mine.vote(second, 8)
    with pytest.raises(VoteTooFastError):  # a chain of two wins nothing either
        mine.vote(third, 8)
    mine.vote(third, 12)


def test_nor_are_pairs_of_two_projects(db: Session) -> None:
    mine, there = Hands(db), Hands(db)
    there.me, there.start = mine.me, mine.start
    first, second = mine.take(0), there.take(0)
    mine.vote(first, 5)
    with pytest.raises(VoteTooFastError):
        there.vote(second, 5)
    there.vote(second, 8)


def test_skips_changes_and_pairs_that_were_sent_twice_take_no_time(db: Session) -> None:
    mine = Hands(db)
    first = mine.take(0)
    second = mine.ahead(first, 0)
    mine.vote(first, 1, choice="skip")
    mine.vote(second, 4)
    mine.vote(second, 4.1, choice="b")
    third = mine.take(4.1)
    mine.vote(third, 8.1)


@pytest.mark.parametrize("connection", ["quick", "slow", "lost"])
def test_whoever_reads_one_pair_after_the_other_is_never_held_up(db: Session, connection: str) -> None:
    """As the page does it: each pair is read for barely the shortest look, and its choice sent behind the reader's
    back, with how long the next pair has been on the screen. What arrives when is the network's."""
    mine, delays = Hands(db, pairs=12), random.Random(7)
    hand = mine.take(0)
    ahead, ready = mine.ahead(hand, 0.3), 0.3
    read = arrived = 0.0
    for number in range(10):
        chosen = read + 4.01
        late = {"quick": 0.0, "slow": delays.uniform(0.1, 3.5), "lost": 30.0 if number == 4 else 0.1}[connection]
        arrived = max(arrived + 0.01, chosen + late)
        mine.vote(hand, arrived, seconds=4.01)
        behind = mine.ahead(ahead, arrived, showing_since=arrived)  # as the server learns of it: too late
        hand, read = ahead, max(chosen, ready)
        ahead, ready = behind, arrived


def test_judgements_at_the_same_moment_wait_for_each_other(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        mine = Hands(db)
        first = mine.take(-5)
        held = [first, mine.ahead(first, -5)]

    def judge(lease: UUID) -> bool:
        try:
            with transaction(factory) as db:
                record_vote(db, reviewer_id=mine.me, assignment_id=lease, choice="a", source="api", now=mine.at(0))
        except VoteTooFastError:
            return False
        return True

    assert sorted(at_once(*[partial(judge, lease) for lease in held])) == [False, True]
