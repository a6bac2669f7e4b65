"""Votes of a round that made no version are new again, and can be changed."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.comparisons.queries import votes_since_last_round
from app.comparisons.service import undo_vote
from app.db.ids import new_id
from app.db.tables import Assignment, Comparison, ComparisonSlot, Project, Standing, Version, Vote
from app.preferences.groups import digest, snapshot_lines
from app.rounds import service
from app.rounds.errors import VotesChangedError
from app.rounds.leases import Claimed
from app.settings import Settings
from app.versions.manifest import VersionInfo
from tests.factories.loops import cast_votes, claim, make_loop

SETTINGS = Settings()


@pytest.fixture
def loop(db: Session) -> tuple[Project, Version]:
    return make_loop(db, votes=10, held_out_votes=2)


def begin(db: Session, project: Project) -> Claimed:
    """A round that has frozen its votes."""
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, SETTINGS)
    service.prepare(db, round_, claimed.token)
    return claimed


def finish(db: Session, claimed: Claimed) -> None:
    round_, token = claimed.round, claimed.token
    service.advance(db, round_.id, token, "preparing", "training")
    service.advance(db, round_.id, token, "training", "publishing")
    info = VersionInfo(kind="full", context_length=64)
    service.register_version(db, round_, token, version_id=new_id(), digest="0" * 64, info=info)


def frozen(db: Session) -> int:
    db.expire_all()
    return db.scalar(select(func.count()).where(Assignment.frozen_at.is_not(None))) or 0


def test_a_cancelled_rounds_votes_are_new_again_and_can_be_taken_back(
    db: Session, loop: tuple[Project, Version]
) -> None:
    project, _ = loop
    claimed = begin(db, project)
    assert (frozen(db), votes_since_last_round(db, project)) == (12, 0)
    service.cancel(db, claimed.round)
    service.end_cancelled(db, claimed.round.id, claimed.token)
    assert (frozen(db), votes_since_last_round(db, project)) == (0, 10)
    vote = db.scalars(select(Vote).limit(1)).one()
    undo_vote(db, reviewer_id=vote.reviewer_id, assignment_id=vote.assignment_id)
    cast_votes(db, project, loop[1], 1)
    assert service.request_round(db, project, trigger="button").state == "queued"


def test_so_are_those_of_one_whose_worker_is_gone(db: Session, loop: tuple[Project, Version]) -> None:
    claimed = begin(db, loop[0])
    service.release(db, claimed.round.id, claimed.token, reason="stopped")
    assert service.cancel(db, claimed.round).state == "cancelled"
    assert frozen(db) == 0


def test_what_an_earlier_round_learned_stays_frozen(db: Session, loop: tuple[Project, Version]) -> None:
    project, version = loop
    finish(db, begin(db, project))
    cast_votes(db, project, version, 11)
    claimed = begin(db, project)
    assert frozen(db) == 23
    service.end_cancelled(db, claimed.round.id, claimed.token)
    assert (frozen(db), votes_since_last_round(db, project)) == (12, 11)


def test_another_project_is_left_alone(db: Session, loop: tuple[Project, Version]) -> None:
    mine = begin(db, loop[0])
    begin(db, make_loop(db, votes=10)[0])
    assert frozen(db) == 22
    service.end_cancelled(db, mine.round.id, mine.token)
    assert frozen(db) == 10


def test_after_a_failure_another_round_reads_the_same_votes(db: Session, loop: tuple[Project, Version]) -> None:
    project, _ = loop
    claimed = begin(db, project)
    service.fail(db, claimed.round.id, claimed.token, code="refused", message="…")
    again = begin(db, project)
    db.expire_all()
    assert (again.round.number, again.round.snapshot_hash) == (2, claimed.round.snapshot_hash)
    assert votes_since_last_round(db, project) == 0


def test_a_retry_freezes_its_votes_again_and_no_later_ones(db: Session, loop: tuple[Project, Version]) -> None:
    project, version = loop
    claimed = begin(db, project)
    service.fail(db, claimed.round.id, claimed.token, code="out_of_disk", message="…")
    cast_votes(db, project, version, 3)
    service.retry(db, claimed.round)
    assert (frozen(db), votes_since_last_round(db, project)) == (12, 3)
    assert digest(snapshot_lines(db, claimed.round.id)) == claimed.round.snapshot_hash
    second = claim(db, SETTINGS)
    service.fail(db, second.round.id, second.token, code="out_of_disk", message="…")
    assert (frozen(db), votes_since_last_round(db, project)) == (0, 13)


def test_a_retry_that_ends_without_a_version_leaves_frozen_what_another_learned(
    db: Session, loop: tuple[Project, Version]
) -> None:
    project, version = loop
    claimed = begin(db, project)
    service.fail(db, claimed.round.id, claimed.token, code="out_of_disk", message="…")
    cast_votes(db, project, version, 3)
    finish(db, begin(db, project))
    service.retry(db, claimed.round)
    second = claim(db, SETTINGS)
    service.fail(db, second.round.id, second.token, code="out_of_disk", message="…")
    assert (frozen(db), votes_since_last_round(db, project)) == (15, 0)


def test_no_retry_on_votes_that_were_taken_back_since(db: Session, loop: tuple[Project, Version]) -> None:
    claimed = begin(db, loop[0])
    service.fail(db, claimed.round.id, claimed.token, code="out_of_disk", message="…")
    db.expire_all()
    vote = db.scalars(select(Vote).limit(1)).one()
    undo_vote(db, reviewer_id=vote.reviewer_id, assignment_id=vote.assignment_id)
    with pytest.raises(VotesChangedError) as refused, db.begin_nested():
        service.retry(db, claimed.round)
    assert refused.value.extra == {"votes": 1}
    assert "1 vote that round 1 read" in refused.value.message
    db.expire_all()
    assert (claimed.round.state, frozen(db)) == ("failed", 0)


def test_a_retry_of_a_round_that_read_nothing_asks_nothing(db: Session, loop: tuple[Project, Version]) -> None:
    round_ = service.request_round(db, loop[0], trigger="button")
    service.fail(db, round_.id, claim(db, SETTINGS).token, code="worker_lost", message="…")
    assert service.retry(db, round_).state == "queued"
    assert frozen(db) == 0


def test_votes_of_somebody_in_quarantine_by_now_give_their_places_free(
    db: Session, loop: tuple[Project, Version]
) -> None:
    project, version = loop
    cast_votes(db, project, version, 2)
    claimed = begin(db, project)
    bad = db.scalars(select(Vote).order_by(Vote.created_at.desc(), Vote.id.desc())).first()
    assert bad is not None
    db.add(Standing(project_id=project.id, reviewer_id=bad.reviewer_id, paused_at=func.now(), paused_reason="too fast"))
    db.flush()
    service.end_cancelled(db, claimed.round.id, claimed.token)
    assert votes_since_last_round(db, project) == 10
    mine = select(Assignment.comparison_id).where(Assignment.reviewer_id == bad.reviewer_id)
    assert set(db.scalars(select(Assignment.state).where(Assignment.reviewer_id == bad.reviewer_id))) == {"set_aside"}
    assert set(db.scalars(select(ComparisonSlot.state).where(ComparisonSlot.comparison_id.in_(mine)))) == {"free"}
    assert set(db.scalars(select(Comparison.state).where(Comparison.id.in_(mine)))) == {"open"}
