"""A full disk stops no running installation, and a start on one is refused with what to do."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from app.local import lock, logs
from app.local.children import Child, Children
from app.local.console import Report
from app.local.errors import LocalError
from app.local.lock import DataLock, prepare_data_directory
from app.local.logs import ChildLog
from app.local.process import spawn
from app.local.stack import Stack, path
from app.local.supervisor import Supervisor
from app.settings import Settings


def full(*_: object, **__: object) -> None:
    """What the kernel says to whoever writes."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_a_copy(_source: Path, target: Path) -> None:
    """A copy that finds no room on the way."""
    target.write_bytes(b"half")
    full()


def test_a_log_that_cannot_be_kept_is_cut_and_leaves_no_half_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ChildLog(tmp_path / "web.log", largest_bytes=10)
    log.path.write_bytes(b"x" * 11)
    monkeypatch.setattr(logs.shutil, "copyfile", half_a_copy)
    with pytest.raises(OSError, match="No space left"):
        log.rotate()
    assert [file.name for file in tmp_path.iterdir()] == ["web.log"]
    assert log.path.read_bytes() == b""


def test_children_are_tended_while_a_log_cannot_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    children = Children(said.append)
    sleeper = Child(
        "sleeper",
        ChildLog(tmp_path / "sleeper.log"),
        lambda output: spawn([sys.executable, "-c", "import time; time.sleep(60)"], env={}, output=output),
        ((signal.SIGTERM, 5.0),),
    )
    children.add(sleeper)
    children.was_ready = True
    monkeypatch.setattr(sleeper.log, "rotate", full)
    for _ in range(3):
        children.tend()
    assert children.pids()
    assert len(said) == 1
    assert "No space left on device" in said[0]
    children.stop()


@pytest.fixture
def supervisor(tmp_path: Path) -> tuple[Supervisor, Callable[[], str]]:
    """One that has started nothing, and what it says."""
    output = io.StringIO()
    made = Supervisor(Settings(data=tmp_path / "data"), Report(Console(file=output, width=400)), with_demo=False)
    return made, output.getvalue


def test_the_file_about_a_stack_that_cannot_be_written_is_written_later(
    supervisor: tuple[Supervisor, Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, said = supervisor
    data = running.settings.data
    prepare_data_directory(data)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        running._write_stack(ready=False)
        for _ in range(3):
            running._tend()
        assert said().count("cannot be written (No space left on device)") == 1
    assert not list((data / "run").iterdir()), "half a file is left"
    running._tend()
    assert path(data).exists()


def test_nothing_stops_when_the_terminal_or_its_file_takes_no_more() -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    report = Report(Console(file=Full()))
    report.line("something happened")
    report.step("web", "ready")


def test_a_start_on_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock.os, "fsync", full)
    with pytest.raises(LocalError, match=r"cannot be written \(no space left on device\): make room there first"):
        DataLock(tmp_path / "data", "hone up").acquire()
    assert not list((tmp_path / "data" / "run").iterdir())


def test_a_refused_start_makes_no_directory(supervisor: tuple[Supervisor, Callable[[], str]]) -> None:
    running, _ = supervisor
    running.settings = running.settings.model_copy(update={"host": "no.such.host.invalid"})
    with pytest.raises(LocalError, match="not an address of this machine"):
        running.main()
    assert not running.settings.data.exists()


def test_a_stack_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_data_directory(tmp_path)
    stack = Stack(1, "", "", "", "", "", "")
    stack.write(tmp_path)
    before = path(tmp_path).read_text()
    monkeypatch.setattr("app.local.stack.json.dump", full)
    with pytest.raises(OSError, match="No space left"):
        stack.write(tmp_path)
    assert path(tmp_path).read_text() == before
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["stack.json"]
