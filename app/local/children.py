"""The processes of a stack: started in order, restarted when they die, stopped in reverse order in bounded time."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from app.local.errors import LocalError, StackError
from app.local.logs import ChildLog
from app.local.process import stop

Starter = Callable[[IO[bytes]], subprocess.Popen[bytes]]
"""Starts the process with its output going to the file; may wait until it answers."""

STARTS_BEFORE_READY = 3
"""A child that dies this often before the stack was ever ready will not mend itself."""
LONGEST_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A child that has lived this long starts again without delay."""


@dataclass
class Child:
    """One supervised process."""

    name: str
    log: ChildLog
    starter: Starter
    stopping: Sequence[tuple[signal.Signals, float]]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = field(default=0.0)
    unrotated: str = ""
    """Why its log could not be rotated last time."""

    def start(self) -> None:
        """Start it.

        Raises:
            LocalError: it does not come up.
            OSError: its program cannot be started.
        """
        with self.log.open() as output:
            self.started = time.monotonic()
            self.process = self.starter(output)

    def stop(self) -> None:
        """Stop it within the sum of its stopping seconds."""
        if self.process is not None:
            stop(self.process, self.stopping)
            self.process = None


class Children:
    """All processes of a stack, in the order of their starts."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._children: list[Child] = []
        self._say = say
        self.was_ready = False

    def add(self, child: Child) -> None:
        """Start ``child`` and keep it running from now on.

        Raises:
            LocalError, OSError: it does not come up.
        """
        self._children.append(child)
        child.start()

    def pids(self) -> dict[str, int]:
        """Process ids by name, of those that live."""
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    def tend(self) -> bool:
        """Look after everybody once: notice deaths, start again when due, rotate logs. True when a pid changed.

        Raises:
            StackError: a child keeps dying and the stack was never ready.
        """
        changed = False
        now = time.monotonic()
        for child in self._children:
            self._rotate(child)
            if child.process is not None and child.process.poll() is not None:
                self._died(child, child.process, now)
                changed = True
            if child.process is None and now >= child.next_start:
                try:
                    child.start()
                    changed = True
                except (LocalError, OSError) as error:
                    self._say(f"{child.name} does not start: {error}")
                    self._postpone(child, time.monotonic())
        return changed

    def stop(self) -> None:
        """Stop everybody, the last started first. Every step has its bound; nothing survives it."""
        for child in reversed(self._children):
            if child.process is not None and child.process.poll() is None:
                began = time.monotonic()
                child.stop()
                self._say(f"{child.name} stopped ({time.monotonic() - began:.1f} s)")

    def _rotate(self, child: Child) -> None:
        try:
            child.log.rotate()
            child.unrotated = ""
        except OSError as error:
            if str(error) != child.unrotated:  # said once, not at every look
                self._say(f"{child.log.path} grew too large and could not be kept ({error.strerror or error})")
            child.unrotated = str(error)

    def _died(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        status = process.returncode
        with contextlib.suppress(ProcessLookupError):  # what it had started must not work beside its successor
            os.killpg(process.pid, signal.SIGKILL)
        child.process = None
        if now - child.started >= STEADY_SECONDS:
            child.failures = 0
        self._postpone(child, now)
        wait = child.next_start - now
        self._say(f"{child.name} {describe_status(status)}; starting it again"
                  f"{f' in {wait:.0f} s' if wait >= 1 else ''} (log: {child.log.path})")  # fmt: skip

    def _postpone(self, child: Child, now: float) -> None:
        child.failures += 1
        if not self.was_ready and child.failures >= STARTS_BEFORE_READY:
            raise StackError(f"{child.name} does not start. The end of {child.log.path}:\n{child.log.tail()}")
        child.next_start = now + min(2.0 ** (child.failures - 2) if child.failures > 1 else 0.0,
                                     LONGEST_BACKOFF_SECONDS)  # fmt: skip


def describe_status(status: int) -> str:
    """``-9`` → "was killed (SIGKILL)"; ``3`` → "ended with status 3"."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed ({signal.Signals(-status).name})"
    except ValueError:
        return f"was killed (signal {-status})"
