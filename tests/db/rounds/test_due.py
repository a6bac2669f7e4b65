"""Rounds that start by themselves."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import OutboxMessage, Project, Round
from app.rounds import due, service
from app.rounds.due import Looked, look
from app.settings import Settings
from tests.factories.loops import cast_votes, claim, make_loop
from tests.factories.rows import make_project
from tests.factories.threads import at_once
from tests.fixtures.logged import Logged

SETTINGS = Settings()
NIGHT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def rounds(db: Session) -> list[tuple[str, str]]:
    return [tuple(row) for row in db.execute(select(Round.trigger, Round.state).order_by(Round.number))]


def test_a_new_project_gets_its_first_version_imported_once(db: Session) -> None:
    make_project(db)
    assert look(db).imports == 1
    assert look(db).imports == 0
    assert rounds(db) == [("setup", "queued")]


def test_a_failed_import_waits_for_a_person(db: Session) -> None:
    project = make_project(db)
    round_ = service.request_import(db, project)
    service.fail(db, round_.id, claim(db, SETTINGS).token, code="base_model", message="no safetensors")
    assert look(db).imports == 0


def test_enough_votes_start_a_round_and_only_one(db: Session) -> None:
    project, version = make_loop(db, votes=19, held_out_votes=5, round_every_votes=20)
    assert look(db).rounds == 0
    cast_votes(db, project, version, 1)
    assert look(db).rounds == 1
    assert look(db).rounds == 0
    assert rounds(db) == [("votes", "queued")]


def test_the_votes_of_the_last_round_do_not_start_another(db: Session) -> None:
    project, version = make_loop(db, votes=20, round_every_votes=20)
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, SETTINGS)
    service.prepare(db, round_, claimed.token)
    service.fail(db, round_.id, claimed.token, code="failed", message="…")
    assert look(db).rounds == 0
    cast_votes(db, project, version, 20)
    assert look(db).rounds == 1


def test_a_round_that_was_cancelled_does_not_come_back_at_the_next_look(db: Session) -> None:
    project, version = make_loop(db, votes=20, round_every_votes=20)
    look(db)
    service.cancel(db, db.scalars(select(Round)).one())
    assert look(db).rounds == 0
    cast_votes(db, project, version, 20)
    assert look(db).rounds == 1


@pytest.mark.parametrize(("votes", "started"), [(10, 1), (9, 0)])
def test_a_schedule_starts_a_round_if_there_are_enough_votes_and_moves_on(
    db: Session, votes: int, started: int
) -> None:
    project, _ = make_loop(db, votes=votes, round_schedule="0 3 * * *", next_round_at=NIGHT)
    assert look(db, now=NIGHT - timedelta(seconds=1)).rounds == 0
    assert look(db, now=NIGHT + timedelta(seconds=5)).rounds == started
    db.refresh(project)
    assert project.next_round_at == NIGHT + timedelta(days=1)
    assert look(db, now=NIGHT + timedelta(seconds=10)).rounds == 0


def test_times_missed_while_nothing_ran_start_one_round(db: Session) -> None:
    project, _ = make_loop(db, round_schedule="0 3 * * *", next_round_at=NIGHT)
    assert look(db, now=NIGHT + timedelta(days=3, hours=1)).rounds == 1
    db.refresh(project)
    assert project.next_round_at == NIGHT + timedelta(days=4)


def test_two_beats_tick_once(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        make_project(db)
        make_loop(db, round_schedule="0 3 * * *", next_round_at=NIGHT)
        make_loop(db, round_every_votes=10)

    def tick() -> Looked:
        with transaction(factory) as db:
            return look(db, now=NIGHT + timedelta(seconds=1))

    looked = at_once(tick, tick)
    assert (sum(item.imports for item in looked), sum(item.rounds for item in looked)) == (1, 2)
    with transaction(factory) as db:
        assert sorted(trigger for trigger, _ in rounds(db)) == ["schedule", "setup", "votes"]


def test_a_time_of_the_schedule_that_another_beat_took_is_gone(fresh_engine: Engine) -> None:
    """Even where nothing else would stop a second round: the first one was cancelled in between."""
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        project_id = make_loop(db, round_schedule="0 3 * * *", next_round_at=NIGHT)[0].id
    now = NIGHT + timedelta(seconds=1)
    with transaction(factory) as slow:
        (seen,) = due._scheduled(slow, now)
        with transaction(factory) as fast:
            assert look(fast, now=now).rounds == 1
            service.cancel(fast, fast.scalars(select(Round)).one())
        assert not due._due_by_schedule(slow, seen, now)
    with transaction(factory) as db:
        assert rounds(db) == [("schedule", "cancelled")]
        assert db.get_one(Project, project_id).next_round_at == NIGHT + timedelta(days=1)


def test_a_round_that_waits_for_a_worker_is_sent_again(db: Session) -> None:
    project, _ = make_loop(db)
    service.request_round(db, project, trigger="button")
    db.query(OutboxMessage).delete()  # it was sent, and Redis was wiped
    assert look(db).waiting
    assert db.scalars(select(OutboxMessage.task)).all() == ["hone.run_rounds"]
    db.query(OutboxMessage).delete()
    claim(db, SETTINGS)
    assert not look(db).waiting
    assert not db.scalars(select(OutboxMessage)).all()


def test_a_round_whose_worker_fell_silent_waits(db: Session) -> None:
    project, _ = make_loop(db)
    round_ = service.request_round(db, project, trigger="button")
    claim(db, SETTINGS)
    round_.lease_expires_at = utcnow() - timedelta(seconds=1)
    db.flush()
    assert look(db).waiting


def test_archived_projects_are_left_alone(db: Session) -> None:
    make_project(db, archived_at=NIGHT)
    make_loop(db, votes=30, round_every_votes=20, archived_at=NIGHT)
    assert look(db) == look(db)
    assert rounds(db) == []


def test_lines_of_a_look_say_of_which_project(db: Session, logged: Logged) -> None:
    ready, _ = make_loop(db, votes=20, round_every_votes=20)
    broken, _ = make_loop(db, round_schedule="not a crontab", next_round_at=NIGHT)
    early, _ = make_loop(db, votes=1, round_schedule="0 3 * * *", next_round_at=NIGHT)
    look(db, now=NIGHT + timedelta(hours=1))
    assert logged.about("is due by votes") == [{"project": str(ready.id), "slug": ready.slug}]
    assert logged.about("cannot be read") == [{"project": str(broken.id), "slug": broken.slug}]
    assert logged.about("no round of") == [{"project": str(early.id), "slug": early.slug}]


def test_a_broken_schedule_of_one_project_does_not_stop_the_others(db: Session) -> None:
    make_loop(db, round_schedule="not a crontab", next_round_at=NIGHT)
    project, _ = make_loop(db, votes=20, round_every_votes=20)
    assert look(db, now=NIGHT + timedelta(seconds=1)).rounds == 1
    assert db.scalars(select(Round.project_id)).all() == [project.id]
    assert db.scalars(select(Project.next_round_at).where(Project.round_schedule.is_not(None))).all() == [None]
