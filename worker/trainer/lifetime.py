"""A trainer's life: one per job directory, never without its parent, and stoppable at any point.

Standard library only, so that it holds before torch is imported.
"""

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from worker.trainer.errors import LockedError, StoppedError

STARTER_PID = os.getppid()
"""Who started this process, asked before anything slow is imported."""

LOCK_FILE = "lock"

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that ends.

    ``parent`` is the process id of the starter as it was known before; if it is no longer our parent, it died
    before the kernel could be told, and this process ends at once. Elsewhere than on Linux only that check is made.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


@contextmanager
def lock(job: Path) -> Iterator[None]:
    """Hold the job directory; the kernel lets go when the process ends, however it ends.

    Raises:
        LockedError: another trainer holds it.
    """
    descriptor = os.open(job / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"another trainer (process {holder}) works on {job}; wait for it or stop it, then start again"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class Stop:
    """Whether SIGTERM (or Ctrl-C) has come; asked between forward passes."""

    def __init__(self) -> None:
        self.asked = False

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. A second one ends the process the usual way."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def check(self, done: str) -> None:
        """Raise StoppedError if a stop was asked for; ``done`` says what is kept."""
        if self.asked:
            raise StoppedError(f"stopped by a signal; {done}")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)
