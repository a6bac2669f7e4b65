"""kill -9 in the middle of training, of trainer and worker; and a worker that comes back after it was given up.

Real processes: Celery on a real Redis and Postgres, and the real trainer on a tiny model.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.db.session import transaction
from app.db.tables import Version
from app.local.redis import EmbeddedRedis
from app.versions.manifest import verify
from tests.factories.worlds import World, make_settings, make_world
from tests.waiting import until
from tests.worker.conftest import StartWorker, start_worker

pytestmark = pytest.mark.chaos
__all__ = ["start_worker"]

SLOW = {"epochs": 50, "pairs_per_step": 2, "checkpoint_every_steps": 5}
"""300 steps of a few milliseconds: long enough to be killed in, with a checkpoint every 5 of them."""

STEPS = 300


@pytest.fixture
def world(fresh_database: str, tmp_path: Path) -> Iterator[World]:
    redis = EmbeddedRedis(tmp_path / "broker").start()
    settings = make_settings(fresh_database, tmp_path / "data", redis_url=redis.url())
    made = make_world(settings, held_out_votes=0, training=SLOW)
    yield made
    made.context.close()
    redis.stop()


def trainer_of(world: World, round_id: object) -> psutil.Process | None:
    """The living trainer of the round."""
    try:
        data = json.loads((world.settings.jobs_dir / str(round_id) / "trainer.json").read_text())
        process = psutil.Process(data["pid"])
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if process.status() != psutil.STATUS_ZOMBIE else None


def events(world: World, round_id: object, kind: str) -> list[int]:
    """Steps of the trainer's events of a kind, so far."""
    try:
        lines = (world.settings.jobs_dir / str(round_id) / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["step"] for event in found if event["kind"] == kind]


def wait_for(world: World, round_id: object, kind: str, count: int) -> psutil.Process:
    """Until there are so many events; the trainer that lives then."""
    until(lambda: len(events(world, round_id, kind)) >= count, what=f"{count} of {kind}")
    process = trainer_of(world, round_id)
    assert process is not None
    return process


def check_done(world: World, round_id: object) -> None:
    """The round is done, once, and there is one whole version of it."""
    round_ = world.round(round_id)
    assert (round_.state, round_.error) == ("done", None)
    assert world.versions() == [(1, "current"), (2, "candidate")]
    with transaction(world.context.factory) as db:
        version = db.get_one(Version, round_.version_id)
    assert verify(world.settings.versions_dir / str(version.id)) == version.digest
    assert version.metrics["train"]["steps"] == STEPS
    assert len(list(world.settings.versions_dir.iterdir())) == 2


def test_kill_9_of_trainer_and_worker_only_delays_a_round(world: World, start_worker: StartWorker) -> None:
    worker = start_worker(world.settings)
    round_id = world.request()
    wait_for(world, round_id, "train", 15).kill()
    second = wait_for(world, round_id, "resumed", 1)
    worker.kill()
    psutil.wait_procs([second], timeout=10)
    assert not second.is_running(), "a trainer dies with its worker"
    assert world.round(round_id).state == "training"
    start_worker(world.settings)
    until(lambda: world.round(round_id).state == "done", what="the end of the round")
    check_done(world, round_id)
    first_step, second_step = events(world, round_id, "resumed")
    assert 10 <= first_step <= second_step
    assert world.notes(round_id).count("claimed") == 2
    assert world.notes(round_id).count("lease_lost") == 1


def test_a_worker_that_was_given_up_comes_back_and_can_do_no_harm(world: World, start_worker: StartWorker) -> None:
    """SIGSTOP of the process that works on the round, as a machine that swaps or a frozen container would do."""
    start_worker(world.settings)
    round_id = world.request()
    trainer = wait_for(world, round_id, "train", 15)
    old = psutil.Process(trainer.ppid())
    old.suspend()
    try:
        until(lambda: world.round(round_id).attempt == 2, what="a takeover")
        until(lambda: not _lives(trainer), what="the end of the old trainer")
        until(lambda: world.round(round_id).state == "done", what="the end of the round")
        before = world.round(round_id)
    finally:
        os.kill(old.pid, signal.SIGCONT)
    time.sleep(3)
    after = world.round(round_id)
    assert (after.state, after.version_id, after.progress) == (before.state, before.version_id, before.progress)
    check_done(world, round_id)
    assert old.is_running()


def _lives(process: psutil.Process) -> bool:
    """A process that its stopped parent cannot reap is dead all the same."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
