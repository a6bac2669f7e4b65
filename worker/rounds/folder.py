"""The job directory of a round, ``jobs/<round id>/``: what the trainer reads, and what it leaves.

spec.json groups.jsonl    what to do; written whole, and again by every attempt (the same bytes)
metrics.jsonl trainer.log what happened
checkpoints/              the trainer's own
attempt-<token>/version/  the finished version of that attempt
trainer.json              the process that trains, to find it again if its worker dies
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from app.rounds.spec import GROUPS_FILE, METRICS_FILE, Spec
from app.settings import Settings
from worker.rounds.errors import RoundFailedError

LOG_FILE = "trainer.log"
PROCESS_FILE = "trainer.json"
LOG_TAIL_LINES = 60
LOG_TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths of one round."""

    path: Path
    versions_dir: Path

    @classmethod
    def of(cls, settings: Settings, round_id: UUID) -> "Folder":
        """The folder of a round; paths come from ids only."""
        return cls((settings.jobs_dir / str(round_id)).absolute(), settings.versions_dir.absolute())

    @property
    def log(self) -> Path:
        """What the trainer says."""
        return self.path / LOG_FILE

    @property
    def metrics(self) -> Path:
        """What the trainer measures."""
        return self.path / METRICS_FILE

    @property
    def process(self) -> Path:
        """Who trains."""
        return self.path / PROCESS_FILE

    def staged(self, token: UUID) -> Path:
        """Where the attempt ``token`` leaves its finished version."""
        return self.path / f"attempt-{token}" / "version"

    def published(self, token: UUID) -> Path:
        """Where that version is published: its id is the token of the attempt that publishes it."""
        return self.versions_dir / str(token)

    def write(self, spec: Spec, lines: Iterable[bytes]) -> None:
        """Write what the trainer reads.

        Raises:
            RoundFailedError: the examples are not those that were frozen.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        spec.write(self.path)
        staged, sha = self.path / f".{GROUPS_FILE}.new", hashlib.sha256()
        with staged.open("wb") as file:
            for line in lines:
                sha.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if sha.hexdigest() != spec.snapshot_hash:
            staged.unlink()
            raise RoundFailedError(
                "snapshot_differs",
                f"The examples of this round hash to {sha.hexdigest()}, but {spec.snapshot_hash} was frozen: rows it "
                "refers to were changed. Restore the database from a backup, or start a new round.",
            )
        staged.replace(self.path / GROUPS_FILE)

    def log_tail(self) -> str:
        """The last lines of the log, fit for Postgres."""
        return log_tail(self.log)

    def forget_attempts(self, but: Iterable[UUID] = ()) -> None:
        """Remove what attempts left behind; checkpoints and the record of the round stay."""
        kept = {f"attempt-{token}" for token in but}
        for folder in self.path.glob("attempt-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """The round has ended for good: keep what tells about it, drop what only served to go on."""
        self.forget_attempts()
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        self.process.unlink(missing_ok=True)


def log_tail(log: Path) -> str:
    """The last lines of ``log``, without characters that Postgres cannot hold; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.replace("\x00", "�").splitlines()[-LOG_TAIL_LINES:])


def read_process(file: Path) -> dict[str, object] | None:
    """Who was started, if the file says so in whole."""
    try:
        data = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) else None
