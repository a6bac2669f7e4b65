"""`hone up` as a process: it comes up, mends itself, refuses a second one, and leaves nothing behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from app.local import net, stack
from app.local.postgres_files import remove_files
from app.local.process import STACK_MARK, marked
from app.local.stack import Stack
from tests.waiting import until

pytestmark = pytest.mark.chaos
READY_SECONDS = 120.0
"""On a machine that is busy with much else; alone it takes about seven."""
STOP_SECONDS = 150.0
"""The bound of every part added up; an idle stack takes a second or five."""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A data directory that all tests here share: each start goes on where the one before was."""
    folder = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    yield folder / "data"
    for left in marked(STACK_MARK, str(folder / "data")):
        left.kill()
    remove_files(folder / "data")
    shutil.rmtree(folder)


class Run:
    """One `hone up`, with what it says."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.output = data.parent / f"output-{time.monotonic_ns()}.log"
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [*HONE, "up", "--data", str(data), "--port", "0"], stdout=log, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        """All so far."""
        return self.output.read_text()

    def stack(self) -> Stack:
        """What it tells other commands, once it is ready."""

        def ready() -> Stack | None:
            assert self.process.poll() is None, self.said()
            running = stack.running(self.data)
            return running if running is not None and running.ready and running.pid == self.process.pid else None

        return until(ready, READY_SECONDS, self.said)

    def end(self, signum: signal.Signals) -> int:
        """Send a signal and wait."""
        self.process.send_signal(signum)
        return self.process.wait(STOP_SECONDS)


T = TypeVar("T")
HONE = [sys.executable, "-m", "app.cli"]


@pytest.fixture
def up(data: Path) -> Iterator[Callable[[], Run]]:
    """Starts `hone up`; whatever is left of it is ended after the test."""
    runs: list[Run] = []

    def start() -> Run:
        runs.append(Run(data))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


def hone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Another command, while it runs or not."""
    return subprocess.run([*HONE, *arguments], check=False, capture_output=True, text=True, timeout=120)


def gone(data: Path) -> bool:
    """Whether nothing of the stack lives."""
    return not marked(STACK_MARK, str(data))


def lives(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be collected is dead."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_comes_up_mends_itself_and_stops_in_order(data: Path, up: Callable[[], Run]) -> None:
    run = up()
    running = run.stack()
    assert set(running.children) == {"postgres", "redis", "engine", "worker", "beat", "web"}
    assert net.status_of(running.url, "/readyz") == 200
    assert net.status_of(running.engine_url, "/health") == 200
    assert "hone users create --admin" in run.said(), "nobody was told how to sign in"
    assert stack.path(data).stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700

    second = hone("up", "--data", str(data))
    assert (second.returncode, second.stdout) == (2, "")
    assert f"is in use by `hone up` (pid {run.process.pid})" in second.stderr
    port = running.url.rsplit(":", 1)[1]
    other = hone("up", "--data", str(data.parent / "other"), "--port", port)
    assert other.returncode == 2
    assert f"port {port} on 127.0.0.1 is taken by" in other.stderr
    assert f"(pid {running.children['web']})" in other.stderr

    made = hone("users", "create", "--admin", "--email", "ann@example.org", "--data", str(data))
    assert made.returncode == 0, made.stderr
    healthy = hone("doctor", "--json", "--data", str(data))
    assert json.loads(healthy.stdout)["ok"], healthy.stdout

    for name in ("web", "worker", "beat", "redis", "postgres", "engine"):
        os.kill(running.children[name], signal.SIGKILL)

    def mended() -> bool:
        now = stack.running(data)
        return (
            now is not None
            and set(now.children) == set(running.children)
            and not set(now.children.values()) & set(running.children.values())
            and net.status_of(now.url, "/readyz") == 200
            and net.status_of(now.engine_url, "/health") == 200
        )

    until(mended, READY_SECONDS, run.said)
    for name in running.children:
        assert f"{name} was killed (SIGKILL); starting it again" in run.said()

    assert run.end(signal.SIGINT) == 0
    assert gone(data)
    stopped = [line.split()[1] for line in run.said().splitlines() if " stopped (" in line]
    assert stopped == ["web", "beat", "worker", "engine", "redis", "postgres"]
    assert stack.running(data) is None


def test_a_killed_supervisor_leaves_no_orphan_and_the_next_goes_on(data: Path, up: Callable[[], Run]) -> None:
    first = up()
    running = first.stack()
    made = hone("users", "create", "--email", "bob@example.org", "--data", str(data))
    assert made.returncode == 0, made.stderr
    first.process.kill()
    first.process.wait()
    until(lambda: gone(data), 30, lambda: str(marked(STACK_MARK, str(data))))
    # A process on its way out has no environment any more, and so no mark, but is there for a moment longer.
    until(lambda: not any(map(lives, running.children.values())), 10, lambda: str(running.children))
    report = hone("doctor", "--data", str(data))
    assert "not running" in report.stdout

    # Not even the guardian may be needed: a stray that still carries the mark is ended by the next start.
    stray = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ | {STACK_MARK: str(data)}
    )
    try:
        second = up()
        second.stack()
        assert stray.wait(10) == -signal.SIGTERM
        assert "left over from a start that was killed" in second.said()
        assert "There is no user yet" not in second.said(), "the user of the first start is lost"
        again = hone("users", "create", "--email", "bob@example.org", "--data", str(data))
        assert "bob@example.org already" in again.stderr
        assert second.end(signal.SIGTERM) == 0
        assert gone(data)
    finally:
        with contextlib.suppress(ProcessLookupError):
            stray.kill()
        stray.wait()
