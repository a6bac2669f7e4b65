"""Leases, votes, skips, flags, undoing, expiry and withdrawal, in any order, against the model of ``queue_model``."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session

from app.comparisons.errors import NothingToUndoError, VoteFrozenError
from app.comparisons.queries import ready_count, votes_since_last_round
from app.comparisons.service import expire_leases, lease_next, record_vote, undo_vote, withdraw_unvoted
from app.db.ids import new_id
from app.db.tables import Assignment
from tests.db.comparisons.queue_model import COUNTED, Model, Pair, lapsed
from tests.factories.rows import make_comparison, make_project, make_user, make_version

LEASE = timedelta(seconds=60)
PEOPLE = 3
people = st.integers(0, PEOPLE - 1)
picks = st.integers(0, 10_000)


class Comparing(RuleBasedStateMachine):
    """Each step is done twice: by the product on Postgres, and by the model in its head."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.db = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.model = Model(LEASE)
        self.keys: list[tuple[str, dict[str, Any], Any]] = []

    @initialize()
    def open_shop(self) -> None:
        self.project = make_project(self.db, lease_seconds=int(LEASE.total_seconds()), buffer_size=1)
        self.older, self.newer = make_version(self.db, self.project), make_version(self.db, self.project)
        self.people = [make_user(self.db).id for _ in range(PEOPLE)]
        self.comparisons: list[UUID] = []

    @precondition(lambda self: len(self.comparisons) < 8)
    @rule(seats=st.integers(1, 3), stale=st.booleans())
    def refill(self, seats: int, stale: bool) -> None:
        version = self.older if stale else self.newer
        self.comparisons.append(make_comparison(self.db, self.project, version=version, slots=seats).id)
        self.model.pairs.append(Pair(seats, stale=stale))

    def spoken(self) -> list[tuple[int, int]]:
        """Those of which something was said, if only once."""
        return [(number, who) for number, who in self.held() if self.model.pairs[number].hands[who].said]

    def teardown(self) -> None:
        self.db.close()
        self.outer.rollback()
        self.connection.close()

    def held(self) -> list[tuple[int, int]]:
        """(pair, person) for everything that was ever handed out."""
        return [(number, who) for number, pair in enumerate(self.model.pairs) for who in pair.hands]

    @precondition(lambda self: self.model.pairs)
    @rule(who=people)
    def ask(self, who: int) -> None:
        self.now += timedelta(milliseconds=1)  # no two leases of one moment: the newest is well defined
        expected = self.model.next_for(who, self.now)
        leased = lease_next(self.db, project=self.project, reviewer_id=self.people[who], now=self.now)
        assert (leased and leased.comparison_id) == (None if expected is None else self.comparisons[expected])

    @precondition(lambda self: self.held())
    @rule(pick=picks, choice=st.sampled_from([*COUNTED, "a", "b", "skip", "flag"]))
    def say(self, pick: int, choice: str) -> None:
        number, who = self.held()[pick % len(self.held())]
        vote = {
            "reviewer_id": self.people[who],
            "comparison_id": self.comparisons[number],
            "choice": choice,
            "reason": "broken" if choice == "flag" else None,
            "idempotency_key": str(new_id()),
            "source": "web",
        }
        expected = self.model.say(number, who, choice)
        try:
            recorded = record_vote(self.db, now=self.now, **vote)
        except VoteFrozenError:
            assert expected == "frozen"
            return
        self.keys.append((choice, vote, recorded))
        assert expected == ("counted" if recorded.counted else "surplus" if recorded.surplus else "kept")

    @precondition(lambda self: any(pair.takes_more for pair in self.model.pairs))
    @rule(who=people, choice=st.sampled_from(["a", "b", "tie", "flag"]))
    def judge(self, who: int, choice: str) -> None:
        """What most steps of a real day are: get a pair and say something of it at once."""
        before = self.held()
        self.ask(who)
        fresh = [hand for hand in self.held() if hand not in before]
        if fresh:
            self.say(self.held().index(fresh[0]), choice)

    @precondition(lambda self: self.keys)
    @rule(pick=picks)
    def repeat(self, pick: int) -> None:
        _, vote, first = self.keys[pick % len(self.keys)]
        again = record_vote(self.db, now=self.now, **vote)
        assert (again.vote, again.counted, again.surplus) == (first.vote, first.counted, first.surplus)
        assert again.replayed

    @precondition(lambda self: self.spoken())
    @rule(pick=picks)
    def take_back(self, pick: int) -> None:
        number, who = self.spoken()[pick % len(self.spoken())]
        self.now += timedelta(milliseconds=1)
        expected = self.model.take_back(number, who, self.now)
        try:
            leased = undo_vote(
                self.db, reviewer_id=self.people[who], comparison_id=self.comparisons[number], now=self.now
            )
        except NothingToUndoError:
            assert expected == "nothing"
        except VoteFrozenError:
            assert expected == "frozen"
        else:
            assert expected == ("leased" if leased.holds_slot else "without a seat")

    @precondition(lambda self: self.held())
    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.held())
    @rule()
    def sweep(self) -> None:
        assert expire_leases(self.db, now=self.now) == self.model.sweep(self.now)

    @precondition(lambda self: self.model.stale)
    @rule()
    def withdraw(self) -> None:
        gone = withdraw_unvoted(self.db, project=self.project, sampled_by_other_than=self.newer.id)
        assert gone == self.model.withdraw()

    @precondition(lambda self: sum(pair.voted for pair in self.model.pairs) > 2)
    @rule()
    def freeze(self) -> None:
        self.db.execute(update(Assignment).where(Assignment.state == "voted").values(frozen_at=self.now))
        for pair in self.model.pairs:
            for hand in pair.hands.values():
                hand.frozen = hand.frozen or hand.state == "voted"

    @invariant()
    def agree(self) -> None:
        if not self.model.pairs:
            return
        rows = self.db.execute(
            text("""
                SELECT c.id, c.state, count(*) FILTER (WHERE s.state = 'free') AS free,
                       count(*) FILTER (WHERE s.state = 'leased') AS leased,
                       count(*) FILTER (WHERE s.state = 'voted') AS voted,
                       count(*) FILTER (WHERE s.state = 'closed') AS closed
                FROM comparisons c JOIN comparison_slots s ON s.comparison_id = c.id
                WHERE c.project_id = :project GROUP BY c.id
            """),
            {"project": self.project.id},
        )
        seen = {row.id: (row.state, row.free, row.leased, row.voted, row.closed) for row in rows}
        for number, pair in enumerate(self.model.pairs):
            leased = sum(hand.state == "leased" for hand in pair.hands.values())
            assert seen[self.comparisons[number]] == (pair.state, pair.free, leased, pair.voted, pair.closed)
        hands = self.db.execute(
            text("""
                SELECT a.comparison_id, a.reviewer_id, a.state,
                       (SELECT count(*) FROM votes v WHERE v.assignment_id = a.id) AS votes
                FROM assignments a WHERE a.project_id = :project
            """),
            {"project": self.project.id},
        )
        known = {(row.comparison_id, row.reviewer_id): (row.state, row.votes) for row in hands}
        assert known == {
            (self.comparisons[number], self.people[who]): (hand.state, len(hand.said))
            for number, pair in enumerate(self.model.pairs)
            for who, hand in pair.hands.items()
        }
        unread = [h for p in self.model.pairs for h in p.hands.values() if h.state == "voted" and not h.frozen]
        assert votes_since_last_round(self.db, self.project) == len(unread)
        ready = sum(
            pair.state == "open" and all(lapsed(hand, self.now) for hand in pair.hands.values())
            for pair in self.model.pairs
        )
        assert ready_count(self.db, self.project, now=self.now) == ready


def test_the_queue_behaves_as_its_model_in_any_order(engine: Engine) -> None:
    Comparing.engine = engine
    run_state_machine_as_test(
        Comparing,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
