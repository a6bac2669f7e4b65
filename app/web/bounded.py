"""Looking at what may not answer, in bounded time and at a bounded price, however many ask: for probes and figures."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Run(Generic[T]):
    """One way through the steps."""

    found: list[T] = field(default_factory=list)
    ended: Future[None] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)


class Bounded(Generic[T]):
    """Takes steps one after the other in a thread of its own, one way through at a time, whoever asks meanwhile.

    Args:
        steps: none may raise. One that hangs keeps the thread, and a connection if it has one; nobody waits for it.
        seconds: how long a way through may take before those who asked are told what was found up to then.
    """

    def __init__(self, steps: Sequence[Callable[[], T]], seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._lock = threading.Lock()
        self._run: _Run[T] | None = None

    async def found(self) -> list[T]:
        """What the steps returned, in order, as far as they came in time."""
        run = self._under_way()
        left = run.began + self._seconds - time.monotonic()
        await asyncio.wait([asyncio.wrap_future(run.ended)], timeout=max(0.0, left))
        return list(run.found)

    def _under_way(self) -> _Run[T]:
        with self._lock:
            run = self._run
            if run is None or run.ended.done():
                run = self._run = _Run()
                # A daemon: the process may end although a step hangs.
                threading.Thread(target=self._take, args=(run,), name="bounded", daemon=True).start()
            return run

    def _take(self, run: _Run[T]) -> None:
        try:
            for step in self._steps:
                run.found.append(step())
        finally:
            run.ended.set_result(None)
