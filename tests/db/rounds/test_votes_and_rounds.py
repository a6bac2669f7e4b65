"""Votes, changes, quarantine and rounds that succeed, fail and are tried again, in any order: what a round has read.

The reference is a sheet of what everybody said last, kept by the test: of each person and pair the choice, and whether
a round that runs or has made a version has read it.
"""

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
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.comparisons.errors import VoteFrozenError
from app.comparisons.queries import votes_since_last_round
from app.comparisons.service import lease_next, record_vote, undo_vote
from app.db.ids import new_id
from app.db.tables import Assignment, Comparison, Prompt, Round, RoundExample, Vote
from app.preferences.groups import digest, snapshot_lines
from app.reviewers import service as reviewers
from app.rounds import service as rounds
from app.rounds.errors import VotesChangedError
from app.rounds.leases import Claimed
from app.settings import Settings
from app.versions.manifest import VersionInfo
from tests.factories.loops import claim
from tests.factories.rows import make_comparison, make_member, make_project, make_version

PEOPLE = 3
people = st.integers(0, PEOPLE - 1)
picks = st.integers(0, 10_000)
choices = st.sampled_from(["a", "b", "tie", "both_bad"])


class Rounds(RuleBasedStateMachine):
    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.db = Session(self.connection, join_transaction_mode="create_savepoint")
        self.read: dict[UUID, dict[UUID, UUID]] = {}
        """Round → assignment → the vote it read, of rounds that run or are done."""
        self.failed: dict[UUID, dict[UUID, UUID]] = {}
        self.running: Claimed | None = None
        self.paused: set[int] = set()

    @initialize()
    def open_shop(self) -> None:
        self.project = make_project(self.db, min_round_votes=2, buffer_size=1)
        self.version = make_version(self.db, self.project, number=1)
        self.people = [make_member(self.db, self.project).id for _ in range(PEOPLE)]
        for number in range(6):
            make_comparison(self.db, self.project, version=self.version, slots=1 + number % 2, held_out=number % 3 == 2)
        for who in range(PEOPLE):
            self.judge(who, "a")
            self.judge(who, "b")

    def teardown(self) -> None:
        self.db.close()
        self.outer.rollback()
        self.connection.close()

    def counted(self) -> dict[UUID, UUID]:
        """Assignment → its latest vote, of those that hold a place and whose reviewer is heard."""
        self.db.expire_all()
        rows = self.db.execute(
            select(Assignment.id, Assignment.reviewer_id, Vote.id)
            .join(Vote, Vote.assignment_id == Assignment.id)
            .where(Assignment.project_id == self.project.id, Assignment.state == "voted")
            .order_by(Vote.revision)
        )
        muted = {self.people[who] for who in self.paused}
        return {assignment: vote for assignment, reviewer, vote in rows if reviewer not in muted}

    def fixed(self) -> set[UUID]:
        return {assignment for read in self.read.values() for assignment in read}

    def voted(self) -> list[Any]:
        query = select(Assignment).where(Assignment.project_id == self.project.id, Assignment.state == "voted")
        return list(self.db.scalars(query.order_by(Assignment.id)))

    @rule()
    def refill(self) -> None:
        make_comparison(self.db, self.project, version=self.version, slots=2)

    @rule(who=people, choice=choices)
    def judge(self, who: int, choice: Any) -> None:
        leased = lease_next(self.db, project=self.project, reviewer_id=self.people[who])
        if leased is not None:
            record_vote(
                self.db,
                reviewer_id=self.people[who],
                assignment_id=leased.assignment_id,
                choice=choice,
                source="web",
            )

    @precondition(lambda self: self.voted())
    @rule(pick=picks, choice=choices, back=st.booleans())
    def change(self, pick: int, choice: Any, back: bool) -> None:
        """Another word, or the same one taken back: refused once a round has read it."""
        mine = self.voted()[pick % len(self.voted())]
        about = {"reviewer_id": mine.reviewer_id, "assignment_id": mine.id}
        try:
            with self.db.begin_nested():
                if back:
                    undo_vote(self.db, **about)
                else:
                    record_vote(self.db, choice=choice, source="web", **about)
        except VoteFrozenError:
            assert mine.id in self.fixed()
        else:
            assert mine.id not in self.fixed()

    @rule(who=people)
    def mute(self, who: int) -> None:
        if who in self.paused:
            reviewers.release(self.db, self.project, self.people[who], actor=None)
            self.paused.remove(who)
        else:
            reviewers.quarantine(self.db, self.project, self.people[who], reason="coin flips", actor=None)
            self.paused.add(who)

    @precondition(lambda self: self.running is None and votes_since_last_round(self.db, self.project) > 1)
    @rule()
    def begin(self) -> None:
        round_ = rounds.request_round(self.db, self.project, trigger="button")
        self.running = claim(self.db, Settings())
        rounds.prepare(self.db, round_, self.running.token)
        self.read[round_.id] = self.counted()

    @precondition(lambda self: self.running is not None)
    @rule(done=st.booleans())
    def end(self, done: bool) -> None:
        assert self.running is not None
        round_, token, self.running = self.running.round, self.running.token, None
        if not done:
            rounds.fail(self.db, round_.id, token, code="out_of_disk", message="…")
            self.failed[round_.id] = self.read.pop(round_.id)
            return
        state = self.db.get_one(Round, round_.id, populate_existing=True).state
        for before, after in (("queued", "preparing"), ("preparing", "training"), ("training", "publishing")):
            if state == before:
                rounds.advance(self.db, round_.id, token, before, after)  # type: ignore[arg-type]
                state = after
        info = VersionInfo(kind="full", context_length=64)
        rounds.register_version(self.db, round_, token, version_id=new_id(), digest="0" * 64, info=info)

    @precondition(lambda self: self.running is None and votes_since_last_round(self.db, self.project) > 1)
    @rule(meanwhile=st.none() | choices)
    def stumble(self, meanwhile: Any) -> None:
        """A round fails, somebody may change their mind, and it is tried again: what most retries are."""
        self.begin()
        self.end(done=False)
        if meanwhile is not None:
            self.change(0, meanwhile, back=False)
        self.again(len(self.failed) - 1)

    @precondition(lambda self: self.running is None and self.failed)
    @rule(pick=picks)
    def again(self, pick: int) -> None:
        """A round that failed is tried again, if what it read is still what people say."""
        round_id = list(self.failed)[pick % len(self.failed)]
        still = self.failed[round_id].items() <= self.counted().items()
        try:
            with self.db.begin_nested():
                rounds.retry(self.db, self.db.get_one(Round, round_id))
        except VotesChangedError:
            assert not still
        else:
            assert still
            self.running = claim(self.db, Settings())
            self.read[round_id] = self.failed.pop(round_id)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "project"):
            return
        self.db.expire_all()
        fixed = select(Assignment.id).where(
            Assignment.project_id == self.project.id, Assignment.frozen_at.is_not(None), Assignment.state == "voted"
        )
        assert set(self.db.scalars(fixed)) == self.fixed(), "fixed is what a round reads or has made a version of"
        for round_id, read in (self.read | self.failed).items():
            examples = self.db.execute(
                select(RoundExample.vote_ids, RoundExample.split, Prompt.held_out)
                .join(Prompt, Prompt.id == RoundExample.prompt_id)
                .where(RoundExample.round_id == round_id)
            ).all()
            votes = [vote for row in examples for vote in row.vote_ids]
            assert sorted(votes) == sorted(read.values()), "each once, and none is lost"
            assert all((row.split == "eval") == row.held_out for row in examples)
            stored = self.db.get_one(Round, round_id).snapshot_hash
            assert digest(snapshot_lines(self.db, round_id)) == stored
        unread = (
            select(Assignment.id)
            .join(Comparison, Comparison.id == Assignment.comparison_id)
            .join(Prompt, Prompt.id == Comparison.prompt_id)
            .where(Assignment.project_id == self.project.id, Assignment.state == "voted", Prompt.held_out.is_(False))
        )
        new = set(self.db.scalars(unread)) - self.fixed()
        assert votes_since_last_round(self.db, self.project) == len(new)


def test_what_rounds_read_is_what_people_said_in_any_order(engine: Engine) -> None:
    Rounds.engine = engine
    run_state_machine_as_test(
        Rounds,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
