"""Following metrics.jsonl while the trainer writes it."""

import json
import os
from pathlib import Path
from typing import Any

_NOT_SHOWN = {"at", "kind", "table", "findings", "path", "version", "digest"}


class MetricsTail:
    """New whole lines of the file at every ``read``; a trainer that resumes may have replaced it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._inode: int | None = None
        self.progress: dict[str, Any] = {}
        """The latest figures: phase, progress (0 to 1), step, steps, loss …, with 'eval', 'best_step',
        'early_stop', 'over_budget' and 'alarm' beside."""

    def read(self) -> bool:
        """Take in what is new; whether there was anything."""
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return False
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._inode, self._offset = status.st_ino, 0
        if status.st_size == self._offset:
            return False
        with self._file.open("rb") as file:
            if os.fstat(file.fileno()).st_ino != self._inode:
                return False
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(line)
        return bool(whole)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        kind = event.get("kind")
        shown = {name: value for name, value in event.items() if name not in _NOT_SHOWN}
        if kind == "eval":
            self.progress["eval"] = shown
        elif kind == "alarm":
            self.progress["alarm"] = event.get("message")
        elif kind == "over_budget":
            self.progress["over_budget"] = event.get("message")
        elif kind == "best":
            self.progress["best_step"] = event.get("step")
        elif kind == "early_stop":
            self.progress["early_stop"] = event.get("reason")
        elif kind == "train":
            self.progress |= shown | {"phase": "training"}
        elif kind in ("phase", "resumed", "checkpoint", "done"):
            self.progress |= {name: shown[name] for name in ("phase", "step", "steps", "progress") if name in shown}
