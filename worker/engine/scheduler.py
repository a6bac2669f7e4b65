"""The thread that owns the models: it runs every lane that has work, a step at a time, in turn."""

import logging
import queue
import threading
import time
from collections.abc import Callable

import torch

from worker.engine.errors import EngineError
from worker.engine.lane import Lane
from worker.engine.work import Request

log = logging.getLogger(__name__)


class Scheduler:
    """Requests come in by ``submit`` from any thread and are answered through their ``deliver``."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lanes: dict[Lane, set[Request]] = {}
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="engine-scheduler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the step that runs, fail what is left, and end the thread."""
        self._inbox.put(None)
        self._thread.join()

    def submit(self, lane: Lane, request: Request) -> None:
        """Have ``request`` run on ``lane``."""
        self._inbox.put(lambda: self._add(lane, request))

    def cancel(self, request: Request) -> None:
        """Nobody waits for ``request`` any more: free what it holds before the next step."""
        request.cancelled.set()
        self._inbox.put(self._note_cancelled)

    def _add(self, lane: Lane, request: Request) -> None:
        if request.cancelled.is_set():
            return
        request.timing.started = time.monotonic()
        self._lanes.setdefault(lane, set()).add(request)
        lane.waiting.extend(request.groups)

    def _note_cancelled(self) -> None:
        self._cancelled = True

    def _run(self) -> None:
        with torch.inference_mode():
            while self._take_mail():
                for lane in list(self._lanes):
                    self._step(lane)
        for lane, requests in self._lanes.items():
            lane.clear()
            for request in requests:
                request.close(_stopping())

    def _take_mail(self) -> bool:
        """Do what was asked for from outside; waits while there is nothing else to do. False: stop."""
        wait = not self._lanes
        while True:
            try:
                message = self._inbox.get(block=wait)
            except queue.Empty:
                break
            if message is None:
                return False
            message()
            wait = False
        if self._cancelled:
            self._cancelled = False
            self._sweep()
        return True

    def _sweep(self) -> None:
        for lane, requests in list(self._lanes.items()):
            for request in [request for request in requests if request.cancelled.is_set()]:
                request.close(None)
            lane.sweep()
            self._retire(lane)

    def _step(self, lane: Lane) -> None:
        try:
            lane.step()
        except Exception as error:
            log.exception("engine.step_failed requests=%d", len(self._lanes[lane]))
            lane.clear()
            for request in self._lanes[lane]:
                request.close(_failed(error))
        for request in self._lanes[lane]:
            request.flush()
        self._retire(lane)

    def _retire(self, lane: Lane) -> None:
        """Forget finished requests, and the lane itself once it has none."""
        requests = self._lanes[lane]
        requests -= {request for request in requests if request.closed}
        if not requests:
            del self._lanes[lane]


def _failed(error: Exception) -> EngineError:
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return EngineError(
        "The engine ran out of memory. Lower --max-batch or --memory-budget-mb." if out_of_memory
        else f"The engine failed while sampling: {type(error).__name__}: {error}",
        status=503 if out_of_memory else 500,
        code="out_of_memory" if out_of_memory else "internal_error",
        kind="server_error",
        retry_after_seconds=5 if out_of_memory else None,
    )  # fmt: skip


def _stopping() -> EngineError:
    return EngineError(
        "The engine is stopping.", status=503, code="stopping", kind="service_unavailable", retry_after_seconds=5
    )
