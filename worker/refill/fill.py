"""Filling a project's buffer: sample two answers to a prompt from the current version, and queue them as a pair.

Prompts go to the engine several at once, so that it can batch; no transaction is open meanwhile, and every pair is
stored in a short one of its own. A worker that dies loses the answers in flight and nothing else.
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from uuid import UUID

from app.db.session import transaction
from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable
from app.errors import DomainError
from app.journal.outbox import enqueue, send_pending
from app.journal.queues import REFILL
from app.versions.manifest import ManifestError
from worker.context import Context
from worker.refill import buffer
from worker.refill.buffer import Answer, Lease, Plan, ToSample
from worker.refill.sampling import PromptUnusableError, Sampler

logger = logging.getLogger(__name__)

IN_FLIGHT = 16
"""Prompts asked of the engine at the same time."""

PLANNED = 64
"""Prompts chosen at a time."""

RUN_SECONDS = 300.0
"""After so long, the rest is left to another task, so that a huge buffer of one project does not starve others."""

_Pair = tuple[Answer, Answer] | None


class NothingNewError(DomainError):
    """The model answers every prompt with the same words."""

    code = "nothing_new"
    title = "The answers do not differ"


class _LeaseLostError(Exception):
    """Another worker fills this buffer."""


class _PromotedError(Exception):
    """The version that was sampled is no longer the current one."""


def refill(context: Context, project_id: UUID) -> int:
    """Bring the project's buffer up to its size; how many pairs were made.

    Returns at once when another worker does so, when a backoff is not over, or when there is nothing to sample from.
    """
    if not context.settings.engine_url:
        return 0
    with transaction(context.factory) as db:
        lease = buffer.claim(db, project_id)
    if lease is None:
        return 0
    filling = _Filling(context, lease)
    try:
        with context.engine() as engine:
            again = filling.run(engine)
    except _LeaseLostError:
        return filling.made
    except (EngineUnavailable, EngineRefused, EngineNonsense, NothingNewError, ManifestError) as error:
        _give_up(context, filling.lease, error)
        return filling.made
    with transaction(context.factory) as db:
        buffer.release(db, filling.lease)
        if again:
            enqueue(db, REFILL, project_id)
    send_pending(context.factory, context.settings)
    return filling.made


class _Filling:
    """One worker's turn at one buffer."""

    def __init__(self, context: Context, lease: Lease) -> None:
        self.context = context
        self.lease = lease
        self.made = 0
        self._extended = self._began = time.monotonic()

    def run(self, engine: EngineClient) -> bool:
        """Fill until nothing is missing; True when something still is, but this turn is over."""
        while not self.context.stopping:
            with transaction(self.context.factory) as db:
                plan = buffer.plan(db, self.lease, most=PLANNED)
            if plan is None:
                return False
            if time.monotonic() - self._began > RUN_SECONDS:
                return True
            sampler = Sampler(
                engine, plan.version_id, plan.sampling, self.context.settings.versions_dir, self.context.rng
            )
            try:
                self._sample(sampler, plan)
            except _PromotedError:
                logger.info("project %s: the version was replaced, its fresh pairs are dropped", self.lease.project_id)
        return False

    def _sample(self, sampler: Sampler, plan: Plan) -> None:
        """Ask for the plan's prompts, and store what comes back as it comes."""
        made, same = 0, 0
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="refill") as pool:
            asked = {pool.submit(sampler.pair, prompt): prompt for prompt in plan.prompts}
            try:
                for future in self._completed(asked):
                    prompt = asked[future]
                    try:
                        pair = future.result()
                    except PromptUnusableError as error:
                        self._set_problem(prompt, str(error))
                        continue
                    if self._store(plan, prompt, pair):
                        made += 1
                    else:
                        same += 1
            finally:
                for future in asked:
                    future.cancel()
        self.made += made
        if same and not made:
            raise NothingNewError(
                f"Both answers to each of {same} prompts were the same or empty, even at a higher temperature.",
                mend="Raise the temperature in the project's sampling settings.",
            )

    def _completed(self, asked: dict[Future[_Pair], ToSample]) -> Iterator[Future[_Pair]]:
        """Futures as they complete; the lease is kept meanwhile."""
        pending = set(asked)
        while pending:
            self._keep_lease()
            if self.context.stopping:
                pending = {future for future in pending if not future.cancel()}
            done, pending = wait(pending, timeout=buffer.LEASE_SECONDS / 6, return_when=FIRST_COMPLETED)
            yield from done

    def _keep_lease(self) -> None:
        if time.monotonic() - self._extended < buffer.LEASE_SECONDS / 3:
            return
        with transaction(self.context.factory) as db:
            kept = buffer.extend(db, self.lease)
        if kept is None:
            raise _LeaseLostError
        self.lease, self._extended = kept, time.monotonic()

    def _store(self, plan: Plan, prompt: ToSample, pair: _Pair) -> bool:
        with transaction(self.context.factory) as db:
            if pair is None:
                buffer.count_attempt(db, prompt.id)
                return False
            stored = buffer.store(db, self.lease, plan, prompt.id, pair, self.context.rng)
        if not stored:
            raise _PromotedError
        return True

    def _set_problem(self, prompt: ToSample, problem: str) -> None:
        with transaction(self.context.factory) as db:
            buffer.set_problem(db, prompt.id, problem)


def _give_up(context: Context, lease: Lease, error: Exception) -> None:
    """Back off, visibly; but an engine that sleeps for a round's sake is no failure, and one forgotten is woken."""
    wait_seconds = buffer.backoff_seconds(lease.failures + 1, context.rng)
    problem: str | None = f"{error} {error.mend}".strip() if isinstance(error, DomainError) else str(error)
    failed = True
    if isinstance(error, EngineUnavailable) and _sleeps(context):
        with transaction(context.factory) as db:
            on_purpose = buffer.somebody_trains(db)
        problem, failed, wait_seconds = None, False, 2.0
        if not on_purpose:
            _wake(context)
    logger.warning("project %s: no new pairs for %.0f s: %s", lease.project_id, wait_seconds, error)
    with transaction(context.factory) as db:
        buffer.give_up(db, lease, problem, wait_seconds=wait_seconds, failed=failed)


def _sleeps(context: Context) -> bool:
    try:
        with context.engine() as engine:
            return engine.is_sleeping()
    except DomainError:
        return False


def _wake(context: Context) -> None:
    logger.warning("the engine sleeps and no round trains: waking it")
    try:
        with context.engine() as engine:
            engine.wake()
    except DomainError as error:
        logger.warning("it cannot be woken: %s", error)
