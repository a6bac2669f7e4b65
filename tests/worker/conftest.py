"""Processes that tests of the worker share: one engine for the session, and Celery workers that a test may kill."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.local import commands
from app.local.process import spawn, stop
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine over the versions of one data directory, which tests share; each adds versions of its own."""

    url: str
    data: Path


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The session's engine."""
    data = tmp_path_factory.mktemp("shared")
    (data / "versions").mkdir()
    log = data / "engine.log"
    command = [sys.executable, "-m", "worker.engine", "--versions", str(data / "versions"), "--port", "0"]
    with log.open("wb") as output:
        process = spawn(command, env=os.environ | {"HONE_ENGINE_SECRET": "s"}, output=output, cwd=ROOT)
    deadline = time.monotonic() + 90
    while not (found := re.search(r"listening on (http://\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    yield RunningEngine(found[1], data)
    stop(process, ())


@dataclass(slots=True)
class RunningWorker:
    """A Celery worker, and its beat."""

    process: subprocess.Popen[bytes]
    beat: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until its log says so."""
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text(errors="replace"):
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, of the worker's parent only; its children have to notice. No beat goes on without it."""
        stop(self.beat, ())
        self.process.kill()
        self.process.wait()


StartWorker = Callable[[Settings], RunningWorker]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts Celery workers as ``hone up`` does; whatever is left of them is ended after the test."""
    started: list[RunningWorker] = []

    def start(settings: Settings) -> RunningWorker:
        log = tmp_path / f"worker-{len(started)}.log"
        environment = {
            f"HONE_{name.upper()}": str(value)
            for name, value in settings.model_dump(include={"data", "database_url", "redis_url", "engine_url"}).items()
        }
        for name in ("round_lease_seconds", "reconcile_seconds", "trainer_silence_seconds", "log_format"):
            environment[f"HONE_{name.upper()}"] = str(getattr(settings, name))
        environment["HONE_TRAINER_COMMAND"] = json.dumps(settings.trainer_command)
        environment["HONE_ENGINE_SECRET"] = settings.engine_secret.get_secret_value()
        programs = (commands.worker(), commands.beat(tmp_path / f"beat-{len(started)}"))
        with log.open("ab") as output:
            worker, beat = (spawn(one, env=os.environ | environment, output=output, cwd=ROOT) for one in programs)
        started.append(RunningWorker(worker, beat, log))
        return started[-1]

    yield start
    for worker in started:
        stop(worker.beat, ())
        stop(worker.process, ())
