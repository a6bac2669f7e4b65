"""A round belongs to the worker that holds its token, and to nobody else."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.db.ids import new_id
from app.db.session import make_session_factory, transaction
from app.db.tables import Assignment, Round, RoundEvent, RoundExample
from app.rounds import service
from app.rounds.errors import LeaseLostError
from app.rounds.leases import MAX_TAKEOVERS
from app.rounds.states import ACTIVE, NEXT
from app.settings import Settings
from tests.factories.loops import claim, make_loop, move_on
from tests.factories.threads import at_once

SETTINGS = Settings(round_lease_seconds=30)


@pytest.fixture
def round_(db: Session) -> Round:
    project, _ = make_loop(db)
    return service.request_round(db, project, trigger="button")


def expire(db: Session, round_: Round) -> None:
    db.execute(
        update(Round)
        .where(Round.id == round_.id)
        .values(lease_expires_at=func.clock_timestamp() - timedelta(seconds=1))
    )
    db.expire_all()


def test_a_claimed_round_is_not_claimed_again_while_its_worker_lives(db: Session, round_: Round) -> None:
    claimed = claim(db, SETTINGS)
    assert (claimed.round.id, claimed.round.attempt, claimed.earlier) == (round_.id, 1, [])
    assert service.claim(db, settings=SETTINGS) is None


def test_a_round_whose_worker_fell_silent_is_taken_over_as_it_is(db: Session, round_: Round) -> None:
    first = claim(db, SETTINGS)
    service.prepare(db, round_, first.token)
    service.advance(db, round_.id, first.token, "preparing", "training")
    expire(db, round_)
    second = claim(db, SETTINGS)
    assert second.token != first.token
    assert second.earlier == [first.token]
    assert (second.round.state, second.round.attempt, second.takeovers) == ("training", 2, 1)
    kinds = db.scalars(select(RoundEvent.kind).where(RoundEvent.round_id == round_.id).order_by(RoundEvent.at)).all()
    assert kinds.count("lease_lost") == 1


def test_whoever_lost_the_token_can_write_nothing(db: Session, round_: Round) -> None:
    old = claim(db, SETTINGS)
    expire(db, round_)
    new = claim(db, SETTINGS)
    before = _state(db, round_)
    for attempt in (
        lambda: service.heartbeat(db, round_.id, old.token, settings=SETTINGS),
        lambda: service.record_progress(db, round_.id, old.token, {"step": 99}),
        lambda: service.prepare(db, round_, old.token),
        lambda: service.advance(db, round_.id, old.token, "queued", "preparing"),
        lambda: service.fail(db, round_.id, old.token, code="failed", message="late"),
        lambda: service.end_cancelled(db, round_.id, old.token),
        lambda: service.release(db, round_.id, old.token, reason="late"),
        lambda: service.note(db, round_.id, old.token, "late"),
    ):
        with pytest.raises(LeaseLostError), db.begin_nested():
            attempt()
    assert _state(db, round_) == before
    assert not db.scalars(select(RoundExample)).all()
    assert not db.scalars(select(Assignment).where(Assignment.frozen_at.is_not(None))).all()
    service.heartbeat(db, round_.id, new.token, settings=SETTINGS)


def _state(db: Session, round_: Round) -> tuple[object, ...]:
    db.expire_all()
    events = db.scalar(select(func.count()).select_from(RoundEvent))
    return (round_.state, round_.lease_token, round_.progress, round_.error, round_.snapshot_hash, events)


def test_a_heartbeat_extends_the_lease(db: Session, round_: Round) -> None:
    claimed = claim(db, SETTINGS)
    expire(db, round_)
    service.heartbeat(db, round_.id, claimed.token, settings=SETTINGS)
    left = db.scalar(select(Round.lease_expires_at - func.clock_timestamp()).where(Round.id == round_.id))
    assert timedelta(seconds=25) < left <= timedelta(seconds=30)
    assert service.claim(db, settings=SETTINGS) is None


def test_a_released_round_is_claimed_again_at_once_and_nobody_counts_it_as_lost(db: Session, round_: Round) -> None:
    for _ in range(MAX_TAKEOVERS + 1):
        claimed = claim(db, SETTINGS)
        assert not claimed.worn_out
        service.release(db, round_.id, claimed.token, reason="the worker stops")


def test_a_round_that_takes_its_workers_down_is_worn_out_until_somebody_retries_it(db: Session, round_: Round) -> None:
    for _ in range(MAX_TAKEOVERS):
        assert not claim(db, SETTINGS).worn_out
        expire(db, round_)
    claimed = claim(db, SETTINGS)
    assert claimed.worn_out
    service.fail(db, round_.id, claimed.token, code="worker_lost", message="…")
    service.retry(db, round_)
    assert not claim(db, SETTINGS).worn_out


def test_a_change_from_another_state_changes_nothing(db: Session, round_: Round) -> None:
    claimed = claim(db, SETTINGS)
    with pytest.raises(LeaseLostError):
        service.advance(db, round_.id, claimed.token, "training", "publishing")
    db.refresh(round_)
    assert round_.state == "queued"


def test_every_impossible_change_is_refused(db: Session, round_: Round) -> None:
    for before, allowed in NEXT.items():
        for after in NEXT:
            if after not in allowed:
                with pytest.raises(ValueError, match="does not go"):
                    service.advance(db, round_.id, new_id(), before, after)


def test_an_ended_round_holds_no_lease(db: Session, round_: Round) -> None:
    claimed = claim(db, SETTINGS)
    move_on(db, round_.id, claimed.token, *ACTIVE[1:])
    service.advance(db, round_.id, claimed.token, "publishing", "done")
    db.refresh(round_)
    assert (round_.lease_token, round_.lease_expires_at) == (None, None)
    assert round_.finished_at is not None


def test_many_workers_share_the_rounds_out(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        wanted = {service.request_round(db, make_loop(db)[0], trigger="api").id for _ in range(3)}

    def work() -> object:
        with transaction(factory) as db:
            claimed = service.claim(db, settings=SETTINGS)
            return claimed.round.id if claimed else None

    got = [id_ for id_ in at_once(*[work] * 6) if id_]
    assert sorted(got) == sorted(wanted)
