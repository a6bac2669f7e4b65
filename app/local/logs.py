"""The log file of a child: it writes to the file itself, so that no pipe breaks when the supervisor dies."""

import shutil
from pathlib import Path
from typing import IO

LARGEST_BYTES = 10 * 2**20
KEPT = 3


class ChildLog:
    """``logs/NAME.log``, kept under 10 MiB; older lines in ``NAME.log.1`` (newest) to ``NAME.log.3``."""

    def __init__(self, path: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self.path = path
        self.largest_bytes = largest_bytes

    def open(self) -> IO[bytes]:
        """For a child's output; append mode, so that a truncation moves its next line to the start."""
        return self.path.open("ab", buffering=0)

    def rotate(self) -> None:
        """Copy and truncate when it has grown too large. Lines written in between (microseconds) are lost.

        Raises:
            OSError: there was no room for the copy. The log is truncated all the same: that makes room.
        """
        try:
            if self.path.stat().st_size < self.largest_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(KEPT - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        copy = self._numbered(1)
        try:
            shutil.copyfile(self.path, copy)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        finally:
            with self.path.open("r+b") as file:
                file.truncate(0)

    def tail(self, lines: int = 8, most_bytes: int = 8192) -> str:
        """The last lines, for an error message."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - most_bytes))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
