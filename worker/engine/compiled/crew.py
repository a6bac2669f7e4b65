"""Threads that share the rows of a batch: compiled code runs without the interpreter's lock, so they run at once."""

import math
import os
import queue
import threading
import time
from collections.abc import Callable

_ROWS_EACH = 8
"""With fewer rows for each, waking a thread takes longer than it saves."""

Work = Callable[[int, int], None]


class Trial:
    """Tries out, now and then, whether a step is done sooner with help or without.

    Nothing tells beforehand: two processors may be one core's two threads, or another program may have the other one.
    The results are the same either way.
    """

    _EVERY, _EACH = 512, 8

    def __init__(self) -> None:
        self.pays = True
        self._step = -1
        self._best = [math.inf, math.inf]

    def next(self) -> bool:
        """Whether the next step takes help."""
        self._step += 1
        phase = self._step % self._EVERY
        if phase == 0:
            self._best = [math.inf, math.inf]
        if phase == 2 * self._EACH:
            self.pays = self._best[True] < self._best[False]
        return phase < self._EACH if phase < 2 * self._EACH else self.pays

    def note(self, seconds_per_row: float) -> None:
        """What that step took."""
        phase = self._step % self._EVERY
        if phase < 2 * self._EACH:
            helped = phase < self._EACH
            self._best[helped] = min(self._best[helped], seconds_per_row)


class Crew:
    """As many helpers as there are cores beside the caller's; they are started when they are first needed."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or cores()
        self._trial = Trial()
        self._inboxes: list[queue.SimpleQueue[tuple[Work, int, int]]] = []
        self._results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._busy = threading.Lock()

    def split(self, rows: int, work: Work, *, measured: bool = False) -> None:
        """Have ``work(first, last)`` done for all rows, which must not depend on each other.

        Whether help pays is judged by the calls that are ``measured``: the same work, step after step.

        Raises:
            BaseException: whatever ``work`` raised.
        """
        most = min(self.size, rows // _ROWS_EACH)
        if most < 2:
            work(0, rows)
        elif not measured:
            self._share(rows, most if self._trial.pays else 1, work)
        else:
            helped = self._trial.next()
            started = time.perf_counter()
            self._share(rows, most if helped else 1, work)
            self._trial.note((time.perf_counter() - started) / rows)

    def _share(self, rows: int, parts: int, work: Work) -> None:
        if parts == 1:
            work(0, rows)
            return
        bounds = [rows * part // parts for part in range(parts + 1)]
        with self._busy:
            while len(self._inboxes) < parts - 1:
                self._hire()
            for inbox, first, last in zip(self._inboxes, bounds[1:-1], bounds[2:], strict=False):
                inbox.put((work, first, last))
            try:
                work(bounds[0], bounds[1])
            finally:
                errors = [self._results.get() for _ in range(parts - 1)]
        for error in errors:
            if error is not None:
                raise error

    def _hire(self) -> None:
        inbox: queue.SimpleQueue[tuple[Work, int, int]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(inbox,), name="engine-crew", daemon=True).start()
        self._inboxes.append(inbox)

    def _serve(self, inbox: "queue.SimpleQueue[tuple[Work, int, int]]") -> None:
        while True:
            work, first, last = inbox.get()
            try:
                work(first, last)
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that asked
                self._results.put(error)
            else:
                self._results.put(None)


def cores() -> int:
    """Cores this process may use, or ``OMP_NUM_THREADS`` as everywhere else."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


crew = Crew()
"""The process's own."""
