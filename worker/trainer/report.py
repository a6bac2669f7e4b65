"""What a job tells while it runs: events to metrics.jsonl and to whoever listens, with the share of work done."""

import time
from pathlib import Path
from typing import Any

from app.rounds.spec import METRICS_FILE
from worker.trainer.audit import Audit
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import Event, Listener, MetricsFile

PROGRESS_SECONDS = 1.0


class Work:
    """How much of a job is done, in tokens forward; a training token counts three times."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0

    @property
    def share(self) -> float:
        """0 to 1; 0 before the total is known."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Report:
    """The voice of one job, and its ear for a stop."""

    def __init__(self, directory: Path, stop: Stop, listen: Listener, *, speaks: bool = True) -> None:
        """``speaks`` False: a process beside the main one, which writes nothing and tells nobody."""
        self.stop = stop
        self._speaks = speaks
        self.work = Work()
        self.metrics = MetricsFile(directory / METRICS_FILE)
        self._listen = listen
        self._phase: Event = {}
        self._progressed = 0.0

    def emit(self, event: Event) -> None:
        """Write ``event`` down and pass it on."""
        if not self._speaks:
            return
        event = event | {"progress": round(self.work.share, 4)}
        self.metrics.write(event)
        self._listen(event)

    def phase(self, name: str, **more: Any) -> None:
        """A new part of the job begins: loading, reference, training, publishing."""
        self.stop.check("nothing was begun that could be lost")
        self._phase = {"kind": "phase", "phase": name} | more
        self.emit(self._phase)

    def progressed(self) -> None:
        """Say how far the phase is, about once a second."""
        if time.monotonic() - self._progressed >= PROGRESS_SECONDS:
            self._progressed = time.monotonic()
            self.emit(self._phase)

    def audit(self, audit: Audit) -> None:
        """Publish the audit's table."""
        self.emit({"kind": "audit", "step": 0, "findings": audit.to_list(), "table": audit.table()})
