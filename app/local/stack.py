"""``DATA/run/stack.json``: what a running ``hone up`` tells other commands about itself."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.local.lock import is_locked


@dataclass
class Stack:
    """Addresses and processes of a running stack. The file holds the engine's secret: mode 0600."""

    pid: int
    url: str
    database_url: str
    redis_url: str
    engine_url: str
    engine_secret: str
    started_at: str
    ready: bool = False
    children: dict[str, int] = field(default_factory=dict)
    """Process ids by name, of those that this stack started itself."""

    def write(self, data: Path) -> None:
        """Replace the file in one step.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        descriptor, name = tempfile.mkstemp(dir=data / "run", prefix="stack-")  # 0600 by itself
        staged = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(self), file, indent=2)
            staged.replace(path(data))
        except BaseException:
            staged.unlink(missing_ok=True)
            raise


def path(data: Path) -> Path:
    """Where it is."""
    return data / "run" / "stack.json"


def remove(data: Path) -> None:
    """The stack has stopped."""
    path(data).unlink(missing_ok=True)


def running(data: Path) -> Stack | None:
    """The stack that runs on this data directory, if one does. A file left by a killed one does not count."""
    stack = _read(data)
    if stack is None or not is_locked(data):
        return None
    try:
        os.kill(stack.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # it lives, under another account
        pass
    return stack


def left_behind(data: Path) -> Stack | None:
    """What the last ``hone up`` said, where it ended without being asked to: one that stops removes its file."""
    return None if is_locked(data) else _read(data)


def _read(data: Path) -> Stack | None:
    try:
        return Stack(**json.loads(path(data).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
