"""Which version is current: always one, always whole."""

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.db.session import make_session_factory, transaction
from app.db.tables import AuditEntry, Comparison, Completion, OutboxMessage, Project, Round, Version
from app.rounds import service
from app.rounds.errors import (
    LeaseLostError,
    NothingToRollBackToError,
    VersionDamagedError,
    VersionNotPromotableError,
    VersionNotRejectableError,
)
from app.settings import Settings
from app.versions.manifest import VersionInfo, verify
from tests.factories.loops import cast_votes, claim, make_loop, move_on, write_version
from tests.factories.rows import make_comparison, make_user, make_version
from tests.factories.threads import at_once


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def candidate(db: Session, project: Project, settings: Settings, number: int = 2) -> Version:
    version = make_version(db, project, number=number, state="candidate")
    version.digest = write_version(settings.versions_dir / str(version.id), content=f"version {number}")
    db.flush()
    return version


def current(db: Session, project: Project) -> list[int]:
    db.expire_all()
    query = select(Version.number).where(Version.project_id == project.id, Version.state == "current")
    return list(db.scalars(query))


def test_promoting_retires_the_old_version_and_wakes_the_refill(db: Session, settings: Settings) -> None:
    project, first = make_loop(db, versions_dir=settings.versions_dir)
    project.refill_problem, project.refill_failures = "the engine is down", 4
    second = candidate(db, project, settings)
    admin = make_user(db)
    service.promote(db, second, actor=admin.id, settings=settings)
    assert current(db, project) == [2]
    db.refresh(first)
    assert (first.state, first.retired_at is not None) == ("retired", True)
    assert (project.refill_problem, project.refill_failures) == (None, 0)
    message = db.scalars(select(OutboxMessage).where(OutboxMessage.task == "hone.refill")).one()
    assert message.args == [str(project.id)]
    entry = db.scalars(select(AuditEntry).where(AuditEntry.action == "version.promote")).one()
    assert (entry.actor_id, entry.data["number"], entry.data["replaced"]) == (admin.id, 2, 1)


def test_pairs_of_the_old_version_that_nobody_judged_leave_the_queue(db: Session, settings: Settings) -> None:
    project, first = make_loop(db, votes=2, versions_dir=settings.versions_dir)
    fresh = make_comparison(db, project, version=first)
    service.promote(db, candidate(db, project, settings), actor=None, settings=settings)
    db.expire_all()
    assert db.get_one(Comparison, fresh.id).state == "withdrawn"
    states = dict(db.execute(select(Comparison.state, func.count()).group_by(Comparison.state)).all())
    assert states == {"complete": 2, "withdrawn": 1}


def test_a_damaged_version_is_never_promoted(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db, versions_dir=settings.versions_dir)
    second = candidate(db, project, settings)
    (settings.versions_dir / str(second.id) / "model.safetensors").write_text("version 3")
    with pytest.raises(VersionDamagedError, match=r"model\.safetensors"):
        service.promote(db, second, actor=None, settings=settings)
    assert current(db, project) == [1]


def test_a_whole_directory_that_is_another_versions_is_refused(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db, versions_dir=settings.versions_dir)
    second = candidate(db, project, settings)
    registered, second.digest = second.digest, "0" * 64
    with pytest.raises(VersionDamagedError, match=registered):
        service.promote(db, second, actor=None, settings=settings)


def test_a_missing_version_is_refused(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db)
    with pytest.raises(VersionDamagedError, match="missing"):
        service.promote(db, make_version(db, project, state="candidate"), actor=None, settings=settings)
    assert current(db, project) == [1]


def test_the_current_and_the_rejected_cannot_be_promoted(db: Session, settings: Settings) -> None:
    project, first = make_loop(db, versions_dir=settings.versions_dir)
    with pytest.raises(VersionNotPromotableError, match="Version 1 is current"):
        service.promote(db, first, actor=None, settings=settings)
    second = candidate(db, project, settings)
    service.reject(db, second, actor=None, reason="rambles")
    with pytest.raises(VersionNotPromotableError, match="rejected"):
        service.promote(db, second, actor=None, settings=settings)
    with pytest.raises(VersionNotRejectableError):
        service.reject(db, first, actor=None)
    assert current(db, project) == [1]


def test_rolling_back_goes_down_step_by_step(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db, versions_dir=settings.versions_dir)
    for number in (2, 3):
        service.promote(db, candidate(db, project, settings, number), actor=None, settings=settings)
    candidate(db, project, settings, 4)
    for expected in (2, 1):
        service.roll_back(db, project, actor=None, settings=settings)
        assert current(db, project) == [expected]
    with pytest.raises(NothingToRollBackToError):
        service.roll_back(db, project, actor=None, settings=settings)
    assert current(db, project) == [1]


def test_there_is_one_current_version_however_many_promote_at_once(fresh_engine: Engine, settings: Settings) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        project, _ = make_loop(db, votes=0, versions_dir=settings.versions_dir)
        versions = [candidate(db, project, settings, number).id for number in (2, 3, 4)]

    def promote(version_id: object) -> None:
        with transaction(factory) as db:
            service.promote(db, db.get_one(Version, version_id), actor=None, settings=settings)

    at_once(*[partial(promote, id_) for id_ in versions])
    with transaction(factory) as db:
        assert len(current(db, db.get_one(Project, project.id))) == 1
        states = db.scalars(select(Version.state).order_by(Version.state)).all()
    assert states == ["current", "retired", "retired", "retired"]


def publishing(db: Session, project: Project, settings: Settings) -> tuple[Round, object]:
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, settings)
    move_on(db, round_.id, claimed.token, "preparing", "training", "publishing")
    return round_, claimed.token


def test_what_a_round_made_is_a_candidate(db: Session, settings: Settings) -> None:
    project, first = make_loop(db, versions_dir=settings.versions_dir)
    round_, token = publishing(db, project, settings)
    info = VersionInfo(kind="full", context_length=64, metrics={"loss": 0.5})
    version = service.register_version(db, round_, token, version_id=token, digest="d" * 64, info=info)
    assert (version.number, version.state, version.parent_id, version.metrics) == (
        2,
        "candidate",
        first.id,
        {"loss": 0.5},
    )
    db.refresh(round_)
    assert (round_.state, round_.version_id) == ("done", version.id)
    assert current(db, project) == [1]


def test_whoever_lost_the_round_registers_nothing(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db)
    round_, token = publishing(db, project, settings)
    service.fail(db, round_.id, token, code="failed", message="…")
    info = VersionInfo(kind="full", context_length=64)
    with pytest.raises(LeaseLostError), db.begin_nested():
        service.register_version(db, round_, token, version_id=token, digest="d" * 64, info=info)
    assert db.scalar(select(func.count()).select_from(Version)) == 1


def test_the_current_version_verifies(db: Session, settings: Settings) -> None:
    project, _ = make_loop(db, versions_dir=settings.versions_dir)
    service.promote(db, candidate(db, project, settings), actor=None, settings=settings)
    cast_votes(db, project, make_version(db, project, state="retired"), 1)
    version = db.scalars(select(Version).where(Version.state == "current")).one()
    assert verify(settings.versions_dir / str(version.id)) == version.digest


def test_a_project_may_keep_a_share_of_them_those_that_compare_versions_first(db: Session, settings: Settings) -> None:
    project, first = make_loop(
        db, votes=0, versions_dir=settings.versions_dir, refilling={"keep_percent": 50, "buffer_minutes": 0}
    )
    alone = [make_comparison(db, project, version=first) for _ in range(3)]
    (other,) = [make_comparison(db, project, version=first)]
    older = make_version(db, project, number=0, state="retired")
    db.get_one(Completion, other.completion_b_id).version_id = older.id
    db.flush()
    service.promote(db, candidate(db, project, settings), actor=None, settings=settings)
    db.expire_all()
    assert db.get_one(Comparison, other.id).state == "open"
    assert sorted(db.get_one(Comparison, pair.id).state for pair in alone) == ["open", "withdrawn", "withdrawn"]
