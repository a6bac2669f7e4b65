"""Starting processes that end with us, stopping them in a bounded time, and finding those that were left behind.

Every process of a stack carries ``HONE_STACK`` in its environment; whatever a child starts inherits it, however
many sessions or process groups it makes. That mark is how leftovers are found after a ``kill -9``.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

STACK_MARK = "HONE_STACK"
"""Environment variable: the data directory of the stack a process belongs to."""
RUN_MARK = "HONE_STACK_RUN"
"""Environment variable: which start of that stack."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Account:
    """An unprivileged system account that a process runs under."""

    name: str
    uid: int
    gid: int


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """A hook for the child, between fork and exec: the kernel sends ``signum`` when the parent's thread ends.

    Linux only; elsewhere the guardian and the sweep at the next start do the same later.
    """
    parent = os.getpid()
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # it ended before prctl took effect
            os._exit(1)

    return hook


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int,
    account: Account | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, its output appended to ``output``, to end when this thread ends.

    A session of its own keeps the terminal's Ctrl-C from it: the supervisor decides the order of stopping.

    Raises:
        OSError: the program cannot be started.
    """
    user: dict[str, Any] = {}
    if account is not None:
        user = {"user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077}
    return subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd or ("/" if account else None),
        start_new_session=True,
        # One system call, prepared before the fork. It runs after the change of user, which would clear it.
        preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509
        **user,
    )


def stop(process: subprocess.Popen[bytes], steps: Iterable[tuple[signal.Signals, float]]) -> int:
    """Send each signal in turn and wait its seconds; SIGKILL to the whole group if none helped. Returns the status."""
    for signum, seconds in steps:
        if process.poll() is not None:
            return process.returncode
        process.send_signal(signum)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(10)


def marked(name: str, value: str, *, but: str | None = None) -> list[psutil.Process]:
    """Every other living process with ``name=value`` in its environment, less those of the run ``but``."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
            if environment.get(name) != value or (but is not None and environment.get(RUN_MARK) == but):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # it ended meanwhile, or belongs to someone else
            continue
    return found


def sweep(name: str, value: str, *, grace_seconds: float = 5.0, but: str | None = None) -> list[str]:
    """End every process that ``marked`` finds: first asked, then killed. Returns one line for each that was there.

    Postgres takes SIGINT as "stop fast, cleanly", and only its first process may be told; all else gets SIGTERM.
    """
    left = marked(name, value, but=but)
    pids = {process.pid for process in left}
    lines = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            is_postgres = process.name() == "postgres"
            if is_postgres and process.ppid() in pids:
                continue
            process.send_signal(signal.SIGINT if is_postgres else signal.SIGTERM)
            lines.append(f"{process.name()} (pid {process.pid})")
    psutil.wait_procs(left, timeout=grace_seconds)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rest = marked(name, value, but=but)
        if not rest:
            break
        for process in rest:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(rest, timeout=1)
    return lines
