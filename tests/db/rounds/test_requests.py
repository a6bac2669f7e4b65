"""When a round may be asked for, cancelled and tried again."""

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.session import make_session_factory, transaction
from app.db.tables import AuditEntry, OutboxMessage, Project, Round, RoundEvent, Version
from app.rounds import service
from app.rounds.errors import (
    AlreadyImportedError,
    NoCurrentVersionError,
    RoundAlreadyActiveError,
    RoundNotActiveError,
    RoundNotRetryableError,
    TooFewVotesError,
)
from app.settings import Settings
from tests.factories.loops import cast_votes, claim, make_loop
from tests.factories.rows import make_project, make_user, make_version
from tests.factories.threads import at_once

SETTINGS = Settings()


def test_a_round_starts_from_the_current_version_with_the_projects_settings(db: Session) -> None:
    project, version = make_loop(db, training={"loss": "dpop", "epochs": 3})
    admin = make_user(db)
    round_ = service.request_round(db, project, trigger="button", requested_by=admin.id)
    assert (round_.state, round_.number, round_.parent_id, round_.reference_id) == (
        "queued",
        1,
        version.id,
        version.id,
    )
    assert (round_.settings["loss"], round_.settings["epochs"]) == ("dpop", 3)
    assert db.scalars(select(OutboxMessage.task)).all() == ["hone.run_rounds"]
    entry = db.scalars(select(AuditEntry)).one()
    assert (entry.action, entry.actor_id, entry.subject) == ("round.request", admin.id, f"round:{round_.id}")


def test_the_reference_may_be_the_first_version(db: Session) -> None:
    project, first = make_loop(db, training={"reference": "base"})
    second = make_version(db, project, number=2)
    round_ = service.request_round(db, project, trigger="api")
    assert (round_.parent_id, round_.reference_id) == (second.id, first.id)


def test_too_few_votes_says_both_numbers_and_held_out_votes_do_not_count(db: Session) -> None:
    project, _ = make_loop(db, votes=4, held_out_votes=20, min_round_votes=5)
    with pytest.raises(TooFewVotesError) as refused:
        service.request_round(db, project, trigger="button")
    assert refused.value.extra == {"votes": 4, "needed": 5}
    assert "4 new votes" in refused.value.message
    assert "5" in refused.value.message
    assert not db.scalars(select(Round)).all()


def test_without_a_version_there_is_no_round(db: Session) -> None:
    with pytest.raises(NoCurrentVersionError):
        service.request_round(db, make_project(db), trigger="button")


def test_a_second_round_is_refused_while_one_is_active(db: Session) -> None:
    project, _ = make_loop(db)
    service.request_round(db, project, trigger="button")
    with pytest.raises(RoundAlreadyActiveError) as refused:
        service.request_round(db, project, trigger="api")
    assert refused.value.extra == {"number": 1, "state": "queued"}


def test_the_database_itself_allows_one_active_round(db: Session) -> None:
    project, _ = make_loop(db)
    service.request_round(db, project, trigger="button")
    db.add(Round(project_id=project.id, number=9, kind="dpo", trigger="api", state="training"))
    with pytest.raises(IntegrityError, match="uq_rounds_active"):
        db.flush()


def test_of_two_requests_at_the_same_moment_one_wins(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        project_id = make_loop(db)[0].id

    def ask() -> str:
        try:
            with transaction(factory) as db:
                service.request_round(db, db.get_one(Project, project_id), trigger="api")
        except RoundAlreadyActiveError:
            return "refused"
        return "started"

    outcomes = at_once(ask, ask, ask, ask)
    assert sorted(outcomes) == ["refused", "refused", "refused", "started"]


def test_the_import_is_round_0_and_asked_once(db: Session) -> None:
    project = make_project(db)
    round_ = service.request_import(db, project)
    assert (round_.kind, round_.number, round_.trigger) == ("import", 0, "setup")
    with pytest.raises(RoundAlreadyActiveError):
        service.request_import(db, project)
    imported, _ = make_loop(db)
    with pytest.raises(AlreadyImportedError):
        service.request_import(db, imported)


def test_a_queued_round_is_cancelled_at_once(db: Session) -> None:
    project, _ = make_loop(db)
    round_ = service.request_round(db, project, trigger="button")
    assert service.cancel(db, round_).state == "cancelled"
    assert round_.finished_at is not None
    with pytest.raises(RoundNotActiveError):
        service.cancel(db, round_)
    assert service.claim(db, settings=SETTINGS) is None
    service.request_round(db, project, trigger="button")


def test_a_held_round_is_cancelled_by_its_worker(db: Session) -> None:
    project, _ = make_loop(db)
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, SETTINGS)
    assert service.cancel(db, round_).state == "queued"
    assert service.heartbeat(db, round_.id, claimed.token, settings=SETTINGS).cancel_requested
    service.end_cancelled(db, round_.id, claimed.token)
    db.refresh(round_)
    assert (round_.state, round_.lease_token) == ("cancelled", None)


def test_a_failed_round_can_be_tried_again_with_its_snapshot(db: Session) -> None:
    project, _ = make_loop(db)
    round_ = service.request_round(db, project, trigger="button")
    with pytest.raises(RoundAlreadyActiveError):
        service.retry(db, round_)
    claimed = claim(db, SETTINGS)
    frozen = service.prepare(db, round_, claimed.token)
    service.fail(db, round_.id, claimed.token, code="out_of_memory", message="Too big.", log_tail="…")
    db.refresh(round_)
    assert (round_.state, round_.error_code, round_.error, round_.log_tail) == (
        "failed",
        "out_of_memory",
        "Too big.",
        "…",
    )
    service.retry(db, round_)
    assert (round_.state, round_.error, round_.snapshot_hash) == ("queued", None, frozen.hash)
    kinds = db.scalars(select(RoundEvent.kind).where(RoundEvent.round_id == round_.id).order_by(RoundEvent.at)).all()
    assert kinds == ["state", "claimed", "state", "state", "retry"]


def test_only_a_failed_round_can_be_tried_again_and_not_beside_another(db: Session) -> None:
    project, version = make_loop(db)
    round_ = service.request_round(db, project, trigger="button")
    service.cancel(db, round_)
    with pytest.raises(RoundNotRetryableError):
        service.retry(db, round_)
    failed = service.request_round(db, project, trigger="button")
    service.fail(db, failed.id, claim(db, SETTINGS).token, code="failed", message="…")
    cast_votes(db, project, version, 10)
    service.request_round(db, project, trigger="button")
    with pytest.raises(RoundAlreadyActiveError):
        service.retry(db, failed)


def test_rounds_of_an_archived_project_wait(db: Session) -> None:
    project, _ = make_loop(db)
    service.request_round(db, project, trigger="button")
    db.execute(update(Project).values(archived_at=Version.created_at).where(Version.project_id == Project.id))
    assert service.claim(db, settings=SETTINGS) is None
