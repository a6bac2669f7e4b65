"""One round at a time on a machine: a file that the working process locks, and touches as long as it is well."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from app.settings import Settings

LOCK_FILE = "rounds.lock"


class Slot:
    """The right to work on rounds on this machine. The kernel takes it back when the process ends, however it ends."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file

    def touch(self) -> None:
        """Show that this process is well."""
        os.utime(self._file.fileno())

    def is_mine(self) -> bool:
        """Whether nobody has taken the slot for abandoned meanwhile."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


@contextmanager
def slot(settings: Settings) -> Iterator[Slot | None]:
    """The machine's slot while the block lasts; None when another process is at work.

    A process that holds the slot but has not touched it for two leases hangs (it was stopped, or its disk is gone):
    its file is put aside and a new one made. Should it wake up, it finds that the slot is no longer its own.
    """
    folder = settings.data / "run"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    for _ in range(2):
        with path.open("ab") as file:
            mine = Slot(path, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.time() - os.fstat(file.fileno()).st_mtime > 2 * settings.round_lease_seconds:
                    with suppress(FileNotFoundError):
                        path.unlink()
                    continue
            else:
                if mine.is_mine():  # not put aside between opening and locking
                    mine.touch()
                    yield mine
                    return
                continue
        break
    yield None
