"""The job of a round, with the real trainer on a tiny model, and with processes that fail in every way."""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update

from app import logs
from app.db.ids import new_id
from app.db.session import make_engine, make_session_factory, transaction
from app.db.tables import Project, Round, Version
from app.preferences.groups import snapshot_lines
from app.rounds import service
from app.rounds.spec import Spec
from app.settings import Settings
from app.versions.manifest import VersionInfo, verify, write_manifest
from tests.factories.loops import claim
from tests.factories.models import copy_version, version_directory
from tests.factories.worlds import World, make_settings, make_world
from tests.fixtures.logged import Logged
from tests.waiting import until
from worker.rounds import publish, run_rounds
from worker.rounds.folder import Folder
from worker.rounds.keeper import Keeper
from worker.rounds.run import work_on


@pytest.fixture
def settings(fresh_database: str, tmp_path: Path) -> Settings:
    return make_settings(fresh_database, tmp_path / "data")


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = make_world(settings)
    yield made
    made.context.close()


def trainer(world: World, tmp_path: Path, program: str, **changes: object) -> World:
    """The same installation with another program in the trainer's place: ``program`` sees the job as JOB."""
    script = tmp_path / "trainer.py"
    script.write_text(f"import json, os, signal, sys, time\nJOB = sys.argv[1]\nTOKEN = sys.argv[3]\n{program}\n")
    changed = world.settings.model_copy(update={"trainer_command": [sys.executable, str(script)]} | changes)
    context = world.context.__class__(changed, world.context.factory, world.context.stopping, world.context.rng)
    return World(context, world.project_id, world.version_id, world.reviewer_id)


def test_a_round_trains_a_candidate_that_can_be_traced_and_replayed(world: World) -> None:
    round_id = world.request()
    assert run_rounds(world.context) == 1
    round_ = world.round(round_id)
    assert (round_.state, round_.error) == ("done", None)
    assert world.versions() == [(1, "current"), (2, "candidate")]
    assert (round_.counts["train"], round_.counts["eval"]) == (12, 3)
    assert round_.progress["progress"] == 1.0
    assert round_.progress["eval"]["pairs"] == 3

    job = world.settings.jobs_dir / str(round_id)
    content = (job / "groups.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == round_.snapshot_hash
    with transaction(world.context.factory) as db:
        assert b"".join(snapshot_lines(db, round_id)) == content
        version = db.get_one(Version, round_.version_id)
    assert Spec.read(job).snapshot_hash == round_.snapshot_hash
    assert "eval" in {json.loads(line)["split"] for line in content.splitlines()}

    directory = world.settings.versions_dir / str(version.id)
    assert verify(directory) == version.digest
    info = VersionInfo.read(directory)
    assert (info.kind, info.snapshot_hash) == ("adapter", round_.snapshot_hash)
    assert (version.base_id, version.parent_id) == (world.version_id, world.version_id)
    assert info.parent is not None
    assert info.parent.version == str(world.version_id)
    assert not list(job.glob("attempt-*"))


def test_a_finished_version_of_a_worker_that_died_is_published_not_trained_again(world: World, tmp_path: Path) -> None:
    """kill -9 between the trainer's end and the registration, at every point in between."""
    world = trainer(world, tmp_path, "raise SystemExit('must not train again')")
    round_id = world.request()
    first = finished(world)
    _stop_at(world, first, "publish_and_register")
    assert world.round(round_id).state == "publishing"
    second = _die(world, round_id)
    _stop_at(world, second, "check_base")  # after the rename, before the row
    published = [path for path in world.settings.versions_dir.iterdir() if path.name != str(world.version_id)]
    assert [path.name for path in published] == [str(second.token)]
    assert world.versions() == [(1, "current")]
    work_on(world.context, _die(world, round_id))
    round_ = world.round(round_id)
    assert (round_.state, round_.error, round_.version_id) == ("done", None, second.token)
    assert verify(world.settings.versions_dir / str(second.token))
    assert world.versions() == [(1, "current"), (2, "candidate")]


def test_what_an_attempt_left_half_done_or_of_another_snapshot_is_not_adopted(world: World, tmp_path: Path) -> None:
    world = trainer(world, tmp_path, "sys.exit(5)")
    round_id = world.request()
    first = finished(world, snapshot_hash="of another snapshot")
    second = _die(world, round_id)
    staged = Folder.of(world.settings, round_id).staged(second.token)
    leave_version(staged, world.round(round_id).snapshot_hash)
    (staged / "model.safetensors").write_bytes(b"half")
    work_on(world.context, second)
    assert world.round(round_id).error_code == "not_finite", "it was trained again"
    assert world.versions() == [(1, "current")]
    assert first.token != second.token


def finished(world: World, snapshot_hash: str | None = None) -> service.Claimed:
    """A claimed round in training whose trainer has just finished its version."""
    claimed = claim_in(world)
    with transaction(world.context.factory) as db:
        round_ = db.get_one(Round, claimed.round.id)
        frozen = service.prepare(db, round_, claimed.token)
        service.advance(db, round_.id, claimed.token, "preparing", "training")
        db.refresh(round_)
    leave_version(Folder.of(world.settings, round_.id).staged(claimed.token), snapshot_hash or frozen.hash)
    return replace(claimed, round=round_)


def leave_version(directory: Path, snapshot_hash: str | None) -> None:
    """A whole version directory, as a trainer leaves it."""
    copy_version(version_directory("llama"), directory)
    (directory / "manifest.json").unlink()
    VersionInfo(kind="full", context_length=256, snapshot_hash=snapshot_hash).write(directory)
    write_manifest(directory)


class _Killed(BaseException):
    """kill -9, as far as the code after it can tell."""


def _stop_at(world: World, claimed: service.Claimed, name: str) -> None:
    """Work on the round until ``name`` of worker.rounds would be called."""
    import worker.rounds.job as job_module

    def killed(*_: object, **__: object) -> None:
        raise _Killed

    module = job_module if hasattr(job_module, name) else publish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(_Killed):
            work_on(world.context, claimed)


def _die(world: World, round_id: object) -> service.Claimed:
    """The lease runs out, and the round is claimed by another worker."""
    with transaction(world.context.factory) as db:
        late = func.clock_timestamp() - timedelta(seconds=1)
        db.execute(update(Round).where(Round.id == round_id).values(lease_expires_at=late))
    return claim_in(world)


def claim_in(world: World) -> service.Claimed:
    with transaction(world.context.factory) as db:
        return claim(db, world.settings)


def test_what_was_published_for_a_cancelled_round_does_not_stay(world: World, logged: Logged) -> None:
    round_id = world.request()
    _stop_at(world, finished(world), "check_base")
    assert len(list(world.settings.versions_dir.iterdir())) == 2
    with transaction(world.context.factory) as db:
        late = func.clock_timestamp() - timedelta(seconds=1)
        db.execute(update(Round).values(lease_expires_at=late))
        service.cancel(db, db.get_one(Round, round_id))
    from worker.rounds.sweep import sweep

    sweep(world.context)
    assert [path.name for path in world.settings.versions_dir.iterdir()] == [str(world.version_id)]
    assert world.round(round_id).state == "cancelled"
    with transaction(world.context.factory) as db:
        about = {"project": str(world.project_id), "slug": db.get_one(Project, world.project_id).slug}
    assert logged.about("it was never registered") == [about | {"round": str(round_id)}]


def test_the_heartbeat_says_for_which_project_it_fails(world: World, logged: Logged) -> None:
    quick = world.settings.model_copy(update={"round_lease_seconds": 0.3})
    nowhere = make_session_factory(make_engine(quick.model_copy(update={"database_url": "postgresql:///?port=1"})))
    context = world.context.__class__(quick, nowhere, world.context.stopping, world.context.rng)
    with logs.about(project="this one"), Keeper(context, new_id(), new_id()) as keeper:
        until(lambda: keeper._lost)
    assert {line["project"] for line in logged.about("no heartbeat")} == {"this one"}


FAILURES = [
    (
        "sys.stderr.write('out of memory in step 3; lower it\\n'); sys.exit(3)",
        "out_of_memory",
        "Out of memory in step 3",
    ),
    ("sys.stderr.write('no space left\\n'); sys.exit(4)", "out_of_disk", "Free some space"),
    ("sys.stderr.write('loss is nan\\n'); sys.exit(5)", "not_finite", "Start again with a lower learning rate"),
    ("raise RuntimeError('boom')", "trainer_failed", "RuntimeError: boom"),
    ("sys.exit(0)", "trainer_failed", "left no version"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "SIGKILL"),
]


@pytest.mark.parametrize(("program", "code", "said"), FAILURES, ids=[code for _, code, _ in FAILURES])
def test_every_way_to_fail_is_said_in_words_and_can_be_retried(
    world: World, tmp_path: Path, program: str, code: str, said: str
) -> None:
    world = trainer(world, tmp_path, program)
    round_id = world.request()
    run_rounds(world.context)
    round_ = world.round(round_id)
    assert (round_.state, round_.error_code) == ("failed", code)
    assert said in (round_.error or "")
    assert world.versions() == [(1, "current")]
    with transaction(world.context.factory) as db:
        service.retry(db, db.get_one(Round, round_id))
    assert world.round(round_id).state == "queued"


def test_a_refusal_of_the_trainers_audit_is_shown(world: World) -> None:
    with transaction(world.context.factory) as db:
        db.execute(update(Project).values(training=db.get_one(Project, world.project_id).training | {"max_length": 8}))
    round_id = world.request()
    run_rounds(world.context)
    round_ = world.round(round_id)
    assert (round_.state, round_.error_code) == ("failed", "refused")
    assert "max_length" in (round_.error or "")
    assert "max_length" in (round_.log_tail or "")


def test_a_hung_trainer_is_ended(world: World, tmp_path: Path) -> None:
    world = trainer(world, tmp_path, "time.sleep(600)", trainer_silence_seconds=1.0)
    round_id = world.request()
    began = time.monotonic()
    run_rounds(world.context)
    assert time.monotonic() - began < 10
    assert world.round(round_id).error_code == "trainer_hung"


def test_a_round_that_takes_too_long_is_ended(world: World, tmp_path: Path) -> None:
    program = (
        "while True:\n"
        "    print(json.dumps({'kind': 'phase'}), file=open(f'{JOB}/metrics.jsonl', 'a'), flush=True)\n"
        "    time.sleep(.1)"
    )
    world = trainer(world, tmp_path, program, round_limit_seconds=1.5)
    round_id = world.request()
    run_rounds(world.context)
    assert world.round(round_id).error_code == "deadline"


SLOW = (
    "signal.signal(signal.SIGTERM, lambda *_: (open(f'{JOB}/stopped', 'w').close(), sys.exit(143)))\n"
    "with open(f'{JOB}/metrics.jsonl', 'a') as file:\n"
    "    file.write(json.dumps({'kind': 'train', 'step': 3, 'steps': 9, 'loss': 0.5, 'progress': 0.33}) + '\\n')\n"
    "open(f'{JOB}/pid', 'w').write(str(os.getpid()))\n"
    "time.sleep(600)"
)


def in_background(world: World, round_id: object) -> threading.Thread:
    """Start the worker in a thread, and wait until its trainer shows progress."""
    thread = threading.Thread(target=run_rounds, args=(world.context,))
    thread.start()
    until(lambda: world.round(round_id).progress.get("step") == 3)
    return thread


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_progress_is_shown_and_a_cancelled_round_ends_within_seconds(world: World, tmp_path: Path) -> None:
    world = trainer(world, tmp_path, SLOW)
    round_id = world.request()
    thread = in_background(world, round_id)
    assert world.round(round_id).progress == {
        "phase": "training",
        "step": 3,
        "steps": 9,
        "loss": 0.5,
        "progress": 0.33,
    }
    with transaction(world.context.factory) as db:
        assert service.cancel(db, db.get_one(Round, round_id)).state == "training"
    thread.join(15)
    assert not thread.is_alive()
    assert world.round(round_id).state == "cancelled"
    job = world.settings.jobs_dir / str(round_id)
    assert (job / "stopped").exists(), "it was asked before it was killed"
    assert not alive(int((job / "pid").read_text()))


def test_a_worker_that_is_stopped_gives_the_round_back(world: World, tmp_path: Path) -> None:
    world = trainer(world, tmp_path, SLOW)
    round_id = world.request()
    thread = in_background(world, round_id)
    world.context.stopping.set()
    thread.join(15)
    round_ = world.round(round_id)
    assert (round_.state, round_.lease_token) == ("training", None)
    assert not alive(int((world.settings.jobs_dir / str(round_id) / "pid").read_text()))
    assert world.notes(round_id)[-1] == "released"


def test_a_worker_that_lost_its_round_ends_its_trainer_and_writes_nothing(world: World, tmp_path: Path) -> None:
    slow = trainer(world, tmp_path, SLOW)
    round_id = slow.request()
    thread = in_background(slow, round_id)
    with transaction(world.context.factory) as db:
        late = func.clock_timestamp() - timedelta(seconds=60)
        db.execute(update(Round).where(Round.id == round_id).values(lease_expires_at=late))
        taken = claim(db, slow.settings)
    before = world.round(round_id)
    thread.join(15)
    assert not thread.is_alive()
    assert not alive(int((slow.settings.jobs_dir / str(round_id) / "pid").read_text()))
    after = world.round(round_id)
    assert (after.lease_token, after.state, after.error) == (taken.token, "training", None)
    assert before.progress == after.progress


def test_whoever_takes_over_ends_a_trainer_that_survived(world: World, tmp_path: Path) -> None:
    """Its worker hangs (a stopped process, a dead disk) and cannot end it itself."""
    from app.local.process import spawn, stop

    slow = trainer(world, tmp_path, SLOW)
    round_id = slow.request()
    first = claim_in(slow)
    with transaction(slow.context.factory) as db:
        service.prepare(db, db.get_one(Round, round_id), first.token)
    job = slow.settings.jobs_dir / str(round_id)
    job.mkdir(parents=True)
    with (job / "old.log").open("wb") as log:
        survivor = spawn([*slow.settings.trainer_command, str(job), "--attempt", "x"], env={}, output=log)
    from worker.rounds.process import _write_record

    _write_record(job / "trainer.json", survivor.pid)
    work_on(trainer(world, tmp_path, "sys.exit(5)").context, _die(slow, round_id))
    assert survivor.poll() is not None
    assert world.round(round_id).error_code == "not_finite"
    assert any("worker that lost the round" in note for note in world.notes(round_id))
    stop(survivor, ())


def test_a_round_whose_workers_die_again_and_again_fails(world: World, tmp_path: Path) -> None:
    round_id = world.request()
    claimed = claim_in(world)
    for _ in range(5):
        claimed = _die(world, round_id)
    work_on(world.context, claimed)
    assert world.round(round_id).error_code == "worker_lost"


def test_changed_rows_are_noticed_before_anything_is_trained(world: World) -> None:
    round_id = world.request()
    claimed = claim_in(world)
    with transaction(world.context.factory) as db:
        service.prepare(db, db.get_one(Round, round_id), claimed.token)
        db.execute(update(Round).values(snapshot_hash="0" * 64))
        service.release(db, round_id, claimed.token, reason="test")
    run_rounds(world.context)
    assert world.round(round_id).error_code == "snapshot_differs"


def test_only_one_process_of_a_machine_works_on_rounds(world: World, tmp_path: Path) -> None:
    slow = trainer(world, tmp_path, SLOW)
    round_id = slow.request()
    thread = in_background(slow, round_id)
    began = time.monotonic()
    assert run_rounds(slow.context) == 0
    assert time.monotonic() - began < 1
    slow.context.stopping.set()
    thread.join(15)
