"""One process at a time works on a data directory: ``hone up``, or a command that needs its database."""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from app.local.errors import LocalError, LockedError


class DataLock:
    """An exclusive lock on a data directory; the kernel lets go of it when this process ends, however it ends.

    The file says who holds it, for the message that the next one gets.
    """

    def __init__(self, data: Path, purpose: str) -> None:
        self.path = data / "run" / "lock"
        self.purpose = purpose
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Take the lock now or not at all.

        Raises:
            LockedError: another process has it; the message names it.
            LocalError: the data directory cannot be written.
        """
        prepare_data_directory(self.path.parent.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            data = self.path.parent.parent
            raise LockedError(
                f"{data} is in use by {holder(data)}: stop that first, or choose another directory with --data"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"`{self.purpose}` (pid {os.getpid()})\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(data: Path) -> str:
    """Who holds the lock of a locked data directory: "`hone up` (pid 7)"."""
    return (data / "run" / "lock").read_text(errors="replace").strip() or "another process"


def is_locked(data: Path) -> bool:
    """Whether a process works on this data directory now.

    Raises:
        LocalError: the data directory belongs to another account.
    """
    try:
        descriptor = os.open(data / "run" / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        raise LocalError(f"{data} belongs to another account: run this command as that account") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
PROBE_BYTES = 2**20
"""What no start goes without: the servers' lock files, a log, a socket."""
FOLDERS = ("run", "logs", "versions", "jobs", "reference")
"""What every data directory has, beside what the embedded servers make themselves."""


def prepare_data_directory(data: Path) -> None:
    """Make the data directory and its folders, private to this account, where missing; see that it can be written.

    Raises:
        LocalError: it cannot be made or written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FOLDERS:
            (data / name).mkdir(mode=0o700, exist_ok=True)
        require_writable(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        mend = (
            "make room there first"
            if error.errno in NO_SPACE
            else "choose another with --data, or give this account the right to write there"
        )
        raise LocalError(f"the data directory {data} cannot be written ({reason}): {mend}") from error


def require_writable(data: Path) -> None:
    """Write a file and remove it.

    Raises:
        OSError: it cannot be written, or there is no room for it.
    """
    folder = data / "run" if (data / "run").is_dir() else data
    probe = folder / f".writable-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # some file systems find out only here
    finally:
        probe.unlink(missing_ok=True)
