"""Children are restarted with a growing delay, stopped in order and in bounded time, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil
import pytest

from app.local.children import Child, Children
from app.local.errors import LocalError, LockedError, StackError
from app.local.lock import DataLock, is_locked
from app.local.logs import ChildLog
from app.local.process import RUN_MARK, marked, spawn, sweep
from tests.fixtures.forked import in_child

TERM = ((signal.SIGTERM, 0.5),)


def child(folder: Path, name: str, code: str) -> Child:
    def start(output: IO[bytes]) -> subprocess.Popen[bytes]:
        return spawn([sys.executable, "-c", code], env=dict(os.environ), output=output)

    return Child(name, ChildLog(folder / f"{name}.log"), start, TERM)


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_child_that_is_killed_starts_again_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children(said.append)
    children.add(child(tmp_path, "sleeper", "import time; time.sleep(60)"))
    children.was_ready = True
    first = children.pids()["sleeper"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: children.tend() and children.pids().get("sleeper", first) != first)
    assert "sleeper was killed (SIGKILL); starting it again" in said[0]
    children.stop()
    assert not psutil.pid_exists(first)


def test_what_a_dead_child_had_started_does_not_live_on_beside_its_successor(tmp_path: Path) -> None:
    children = Children(lambda _: None)
    code = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)"
    )
    children.add(child(tmp_path, "parent", code))
    children.was_ready = True
    log = tmp_path / "parent.log"
    wait_for(lambda: log.read_text().strip())
    inner = psutil.Process(int(log.read_text()))
    os.kill(children.pids()["parent"], signal.SIGKILL)
    wait_for(children.tend)
    wait_for(lambda: not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE)
    children.stop()


def test_one_that_keeps_dying_is_given_more_and_more_time(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children(said.append)
    dying = child(tmp_path, "dying", "raise SystemExit(3)")
    children.add(dying)
    children.was_ready = True
    delays = []
    for failures in (1, 2, 3):
        wait_for(lambda failures=failures: children.tend() and dying.failures == failures)  # type: ignore[misc]
        delays.append(dying.next_start - time.monotonic())
    assert delays[0] < 0.1
    assert 0.5 < delays[1] <= 1
    assert 1.5 < delays[2] <= 2
    assert "dying ended with status 3" in said[0]


def test_one_that_never_comes_up_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = Children(lambda _: None)
    children.add(child(tmp_path, "broken", "raise SystemExit('no such model')"))
    with pytest.raises(StackError, match=r"(?s)broken does not start.*no such model"):
        wait_for(lambda: children.tend() and False)


def test_stopping_is_in_reverse_order_and_kills_the_deaf_with_all_they_started(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children(said.append)
    deaf = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)"
    )
    children.add(child(tmp_path, "first", "import time; time.sleep(60)"))
    children.add(child(tmp_path, "deaf", deaf))
    log = tmp_path / "deaf.log"
    wait_for(lambda: log.read_text().strip())
    began = time.monotonic()
    children.stop()
    assert time.monotonic() - began < 5
    assert [line.split()[0] for line in said] == ["deaf", "first"]
    wait_for(lambda: not psutil.pid_exists(int(log.read_text())))


def test_the_sweep_finds_what_left_its_group_and_session(tmp_path: Path) -> None:
    run = f"test-{os.getpid()}"
    runaway = subprocess.Popen(
        [sys.executable, "-c", "import os, time; os.setsid(); time.sleep(60)"], env=os.environ | {RUN_MARK: run}
    )
    wait_for(lambda: marked(RUN_MARK, run))
    assert marked(RUN_MARK, run, but=run) == []
    assert sweep(RUN_MARK, "another run") == []
    assert [f"pid {runaway.pid}" in line for line in sweep(RUN_MARK, run)] == [True]
    assert not psutil.pid_exists(runaway.pid)
    runaway.poll()  # psutil has collected its status


def test_a_log_is_rotated_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.log", largest_bytes=100)
    with log.open() as writer:
        for number in range(6):
            writer.write(f"{number} ".encode() * 60 + b"\n")
            log.rotate()
        writer.write(b"after\n")
    assert log.path.read_text() == "after\n"
    assert log.tail() == "after"
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    assert log.path.with_name("x.log.1").read_text().startswith("5 ")


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with DataLock(tmp_path, "hone up"):
        assert is_locked(tmp_path)
        with pytest.raises(LockedError, match=rf"`hone up` \(pid {os.getpid()}\)"):
            DataLock(tmp_path, "hone restore").acquire()
    assert not is_locked(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from app.local.lock import DataLock\n"
        "DataLock(Path(sys.argv[1]), 'x').acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with DataLock(tmp_path, "hone up"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_accounts_data_directory_is_said_to_be_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    def look_as_nobody() -> None:
        with pytest.raises(LocalError, match="belongs to another account"):
            is_locked(tmp_path)

    with DataLock(tmp_path, "hone up"):
        assert in_child(look_as_nobody, uid=65534, gid=65534) == 0
