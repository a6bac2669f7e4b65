"""Store and scheduler together, as the event loop sees them: counted, cancellable, and logged."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from worker.engine.errors import EngineError, asleep, queue_full
from worker.engine.loading import Loaded
from worker.engine.options import Options
from worker.engine.params import SamplingParams
from worker.engine.scheduler import Scheduler
from worker.engine.store import VersionStore
from worker.engine.work import Delta, Request

log = logging.getLogger(__name__)


class Engine:
    """Lives on one event loop; the scheduler and the loader have threads of their own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.store = VersionStore(options)
        self._scheduler = Scheduler()
        self._in_flight = 0

    def start(self) -> None:
        """Start the threads."""
        self._scheduler.start()
        self.store.warm()

    def stop(self) -> None:
        """Fail what still runs and end the threads."""
        self._scheduler.stop()
        self.store.close()

    @property
    def in_flight(self) -> int:
        """Completions running and waiting."""
        return self._in_flight

    @asynccontextmanager
    async def version(self, name: str) -> AsyncIterator[Loaded]:
        """The version ``name``, loaded on first use and kept while the block runs.

        Raises:
            EngineError: no such version, a damaged one, no memory for it, or the engine sleeps.
        """
        future = self.store.acquire(name)
        try:
            yield await asyncio.shield(asyncio.wrap_future(future))
        finally:
            self.store.release(name, future)

    @contextmanager
    def place(self, completions: int) -> Iterator[None]:
        """A place in the queue for so many completions, held while the block runs.

        Raises:
            EngineError: asleep, more than the queue ever takes, or more than it takes now.
        """
        if self.store.is_asleep:
            raise asleep()
        limit = self.options.max_queue
        if completions > limit:
            raise EngineError(f"{completions} completions in one request; the queue takes {limit}", param="n")
        if self._in_flight + completions > limit:
            raise queue_full(self._in_flight, limit)
        self._in_flight += completions
        try:
            yield
        finally:
            self._in_flight -= completions

    @asynccontextmanager
    async def run(
        self, loaded: Loaded, params: SamplingParams, prompts: list[list[int]], *, stream: bool
    ) -> AsyncIterator["Run"]:
        """Sample; leaving the block before the end cancels, and the slots are free after the step that runs."""
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[list[Delta] | EngineError | None] = asyncio.Queue()

        def deliver(result: list[Delta] | EngineError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(results.put_nowait, result)

        request = Request(params, prompts, loaded.eos, loaded.decode, deliver, stream=stream)
        self._scheduler.submit(loaded.lane, request)
        try:
            yield Run(request, results)
        finally:
            if not request.closed:
                self._scheduler.cancel(request)


class Run:
    """The event loop's end of a running request."""

    def __init__(self, request: Request, results: "asyncio.Queue[list[Delta] | EngineError | None]") -> None:
        self.request = request
        self._results = results

    async def deltas(self) -> AsyncIterator[list[Delta]]:
        """What there is to stream, a step at a time; ends with the request.

        Raises:
            EngineError: sampling failed.
        """
        while (result := await self._results.get()) is not None:
            if isinstance(result, EngineError):
                raise result
            yield result

    async def finish(self) -> None:
        """Wait for the end of a request that does not stream.

        Raises:
            EngineError: sampling failed.
        """
        async for _ in self.deltas():
            pass


def log_request(request_id: str, model: str, request: Request, outcome: str) -> None:
    """One line per request: counts and times, never text."""
    timing = request.timing
    end = timing.finished or time.monotonic()
    completion = sum(sample.sampled_tokens for sample in request.samples)
    reasons = [sample.finish_reason or "none" for sample in request.samples]
    counted = ",".join(f"{reason}:{reasons.count(reason)}" for reason in sorted(set(reasons)))
    total = end - timing.arrived
    log.info(
        "engine.request id=%s model=%s outcome=%s prompts=%d n=%d prompt_tokens=%d completion_tokens=%d "
        "finish=%s first_token_ms=%s total_ms=%d tokens_per_second=%.1f",
        request_id, model, outcome, len(request.groups), request.params.n,
        sum(len(group.prompt_ids) for group in request.groups), completion, counted,
        int((timing.first_token - timing.arrived) * 1000) if timing.first_token is not None else "-",
        int(total * 1000), completion / total if total > 0 else 0.0,
    )  # fmt: skip
