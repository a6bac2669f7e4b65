"""A real Celery worker on a real Redis: it wakes, it survives what happens to Redis, and it never imports torch."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import select

from app import logs
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import OutboxMessage, Round, Tick
from app.journal.outbox import send_pending
from app.journal.queues import REFILL, RUN_ROUNDS
from app.local.process import stop
from app.local.redis import EmbeddedRedis
from app.settings import Settings
from tests.factories.rows import make_project
from tests.factories.worlds import World, make_settings, make_world
from tests.waiting import until
from tests.worker.conftest import StartWorker
from worker.context import Context


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis to wipe and restart."""
    server = EmbeddedRedis(tmp_path / "broker").start()
    yield server
    server.stop()


@pytest.fixture
def settings(fresh_database: str, tmp_path: Path, own_redis: EmbeddedRedis) -> Settings:
    return make_settings(fresh_database, tmp_path / "data", redis_url=own_redis.url())


def imports(world_settings: Settings) -> list[str]:
    context = Context.build(world_settings)
    with transaction(context.factory) as db:
        states = [str(state) for state in db.scalars(select(Round.state).where(Round.kind == "import"))]
    context.close()
    return states


def new_project(settings: Settings) -> None:
    """A project whose import fails at once, which shows that the loop runs."""
    context = Context.build(settings)
    with transaction(context.factory) as db:
        make_project(db, base_model="/nowhere/at/all")
    context.close()


def test_the_loop_starts_again_after_redis_was_wiped_and_restarted(
    settings: Settings, start_worker: StartWorker, own_redis: EmbeddedRedis
) -> None:
    worker = start_worker(settings)
    worker.wait_for("ready.")
    new_project(settings)
    until(lambda: imports(settings) == ["failed"], 60, "the first import")

    with redis.Redis(unix_socket_path=str(own_redis.socket)) as client:
        client.flushall()
    new_project(settings)
    until(lambda: imports(settings).count("failed") == 2, 60, "an import after a wipe")

    own_redis.stop()
    new_project(settings)
    time.sleep(2)
    for file in (own_redis.data / "redis").rglob("*.aof"):
        file.unlink()
    own_redis.start()
    until(lambda: imports(settings).count("failed") == 3, 60, "an import after a restart")
    assert worker.process.poll() is None


def test_ticks_are_on_record_until_beat_dies(settings: Settings, start_worker: StartWorker) -> None:
    def silent_seconds() -> float:
        with transaction(context.factory) as db:
            at = db.scalar(select(Tick.at))
        return (utcnow() - at).total_seconds() if at else float("inf")

    context = Context.build(settings)
    worker = start_worker(settings)
    worker.wait_for("ready.")
    until(lambda: silent_seconds() < 2, 60, "a tick")
    time.sleep(3 * settings.reconcile_seconds)
    until(lambda: silent_seconds() < 2, 10, "a tick after that of the start")
    worker.beat.kill()
    until(lambda: silent_seconds() > 3 * settings.reconcile_seconds, 10, "the silence after beat's death")
    assert worker.process.poll() is None
    context.close()


def test_neither_the_worker_nor_its_processes_import_torch(settings: Settings, start_worker: StartWorker) -> None:
    program = (
        "import sys, json, worker.celery_app as w\n"
        "w.app.loader.import_default_modules()\n"
        "print(json.dumps([sorted(w.app.tasks), [n for n in ('torch', 'transformers', 'peft') if n in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    tasks, loaded = json.loads(done.stdout)
    assert {"hone.run_rounds", "hone.refill", "hone.tick"} <= set(tasks)
    assert loaded == []
    worker = start_worker(settings)
    worker.wait_for("ready.")
    new_project(settings)
    until(lambda: imports(settings) == ["failed"], 60, "an import")
    for process in [psutil.Process(worker.process.pid), *psutil.Process(worker.process.pid).children()]:
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_message_that_is_delivered_twice_changes_nothing(settings: Settings, start_worker: StartWorker) -> None:
    failing = settings.model_copy(update={"trainer_command": [sys.executable, "-c", "raise SystemExit(5)"]})
    world: World = make_world(failing, votes=4, held_out_votes=0, min_round_votes=2)
    round_id = world.request()
    with transaction(world.context.factory) as db:
        assert len(db.scalars(select(OutboxMessage)).all()) == 1
    for _ in range(3):
        with transaction(world.context.factory) as db:
            for message in db.scalars(select(OutboxMessage)):
                message.sent_at = None
                message.due_at = message.created_at
        assert send_pending(world.context.factory, settings) == 1
    worker = start_worker(failing)
    until(lambda: world.round(round_id).state == "failed", 90, "the end of the round")
    worker.wait_for("ready.")
    assert world.notes(round_id).count("claimed") == 1
    world.context.close()


def test_a_worker_that_is_killed_leaves_no_process_behind(settings: Settings, start_worker: StartWorker) -> None:
    worker = start_worker(settings)
    worker.wait_for("ready.")
    until(lambda: len(psutil.Process(worker.process.pid).children(recursive=True)) >= 3, 20, "three jobs")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    worker.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


SLOW_TRAINER = """
import json, signal, sys, time
def stop(*_):
    open(sys.argv[1] + "/stopped", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
with open(sys.argv[1] + "/metrics.jsonl", "a") as file:
    file.write(json.dumps({"kind": "train", "step": 3, "steps": 9, "progress": 0.3}) + "\\n")
time.sleep(600)
"""


def test_a_worker_that_is_told_to_stop_gives_its_round_back_in_time(
    settings: Settings, start_worker: StartWorker
) -> None:
    """SIGTERM, as ``hone up`` sends it on Ctrl-C, reaches the trainer in the pool's process."""
    slow = settings.model_copy(update={"trainer_command": [sys.executable, "-c", SLOW_TRAINER]})
    world: World = make_world(slow, votes=4, held_out_votes=0, min_round_votes=2)
    round_id = world.request()
    worker = start_worker(slow)
    until(lambda: world.round(round_id).progress.get("step") == 3, 90, "training")
    began = time.monotonic()
    worker.process.terminate()
    worker.process.wait(25)
    assert time.monotonic() - began < 20
    round_ = world.round(round_id)
    assert (round_.state, round_.lease_token) == ("training", None)
    assert world.notes(round_id)[-1] == "released"
    assert (settings.jobs_dir / str(round_id) / "stopped").exists()
    world.context.close()


def test_the_worker_logs_as_the_web_server_does_and_says_for_whom(
    settings: Settings, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of root Celery thinks little, and says so before there is a log
    failing = settings.model_copy(
        update={"trainer_command": [sys.executable, "-c", "raise SystemExit(5)"], "log_format": "json"}
    )
    world = make_world(failing, votes=4, held_out_votes=0, min_round_votes=2)
    with logs.about(request_id="asked-by-somebody"):
        round_id = world.request()
    send_pending(world.context.factory, settings)
    worker = start_worker(failing)
    until(lambda: world.round(round_id).state == "failed", 90, "the end of the round")
    worker.wait_for("hone.run_rounds: SUCCESS")
    worker.wait_for("hone.refill: SUCCESS")
    time.sleep(2 * settings.reconcile_seconds)
    stop(worker.process, ((signal.SIGTERM, 20.0),))
    # To a terminal Celery says by itself that it stops.
    logged = worker.log.read_text().replace("\nworker: Warm shutdown (MainProcess)\n", "")
    lines = [json.loads(line) for line in logged.splitlines()]
    (failed,) = [line for line in lines if "failed" in line["message"] and line["logger"] == "worker.rounds.run"]
    assert failed["request_id"] == "asked-by-somebody"
    assert (failed["task"], failed["round"]) == (RUN_ROUNDS, str(round_id))
    assert failed["project"] == str(world.project_id)
    refilled = [line for line in lines if "hone.refill: SUCCESS" in line["message"]]
    assert {(line["task"], line.get("project")) for line in refilled} == {(REFILL, str(world.project_id))}
    assert [line for line in lines if "hone.tick" in line["message"] or "Pool" in line["message"]] == []
    world.context.close()
