"""Filling a project's buffer: sample answers to prompts, and queue what is worth comparing.

Prompts go to the engine several at once, so that it can batch; no transaction is open meanwhile, and what comes back is
stored in a short one of its own. An engine or a worker that fails loses the answers in flight and nothing else: what
was stored is taken up by the next turn, and not sampled again.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from uuid import UUID

from app.comparisons.quality import too_alike
from app.db.session import transaction
from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable
from app.errors import DomainError
from app.journal.outbox import enqueue, send_pending
from app.journal.queues import REFILL
from app.versions.manifest import ManifestError
from worker.about import project_lines
from worker.context import Context
from worker.refill import lease as leases
from worker.refill import store
from worker.refill.answers import Answer
from worker.refill.lease import Lease
from worker.refill.plan import Job, Plan, make_plan
from worker.refill.rewards import Rewards
from worker.refill.sampling import Drawn, PromptUnusableError, Sampler
from worker.refill.selection import Ready, Selection

logger = logging.getLogger(__name__)

IN_FLIGHT = 16
"""Prompts asked of the engine at the same time."""

PLANNED = 64
"""Prompts chosen at a time."""

RUN_SECONDS = 300.0
"""After so long, the rest is left to another task, so that a huge buffer of one project does not starve others."""


class NothingNewError(DomainError):
    """The model answers every prompt with the same words."""

    code = "nothing_new"
    title = "The answers do not differ"


class _LeaseLostError(Exception):
    """Another worker fills this buffer."""


class _PromotedError(Exception):
    """A version that was sampled is no longer what it was."""


def refill(context: Context, project_id: UUID) -> int:
    """Bring the project's buffer up to its size; how many comparisons were made.

    Returns at once when another worker does so, when a backoff is not over, or when there is nothing to sample from.
    """
    if not context.settings.engine_url:
        return 0
    with transaction(context.factory) as db:
        lease = leases.claim(db, project_id)
    if lease is None:
        return 0
    with project_lines(context.factory, project_id):
        return _refill(context, lease)


def _refill(context: Context, lease: Lease) -> int:
    filling = _Filling(context, lease)
    try:
        with context.engine() as engine:
            again = filling.run(engine)
    except _LeaseLostError:
        return filling.made
    except (EngineUnavailable, EngineRefused, EngineNonsense, NothingNewError, ManifestError) as error:
        _give_up(context, filling.lease, error)
        return filling.made
    except Exception as error:
        _give_up(context, filling.lease, error)
        raise
    with transaction(context.factory) as db:
        leases.release(db, filling.lease)
        if again:
            enqueue(db, REFILL, lease.project_id)
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
                plan = make_plan(db, self.lease, self.context.rng, most=PLANNED)
            if plan is None:
                return False
            if time.monotonic() - self._began > RUN_SECONDS:
                return True
            try:
                self._sample(engine, plan)
            except _PromotedError:
                logger.info("a version was replaced, its fresh answers are dropped")
        return False

    def _sample(self, engine: EngineClient, plan: Plan) -> None:
        """Ask for the plan's prompts, store what comes back as it comes, and make comparisons of it."""
        settings, began = self.context.settings, time.monotonic()
        samplers = {
            id_: Sampler(engine, id_, plan.sampling, settings.versions_dir, self.context.rng) for id_ in plan.states
        }
        with transaction(self.context.factory) as db:
            selection = Selection(db, self.lease, plan, self.context.rng)
        rewards = Rewards(engine, settings.versions_dir, plan.version_id, plan.reference_id, plan.training)
        measuring = rewards if selection.reads_rewards else None
        made, same = 0, 0
        failure: DomainError | None = None
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="refill") as pool:
            asked = {pool.submit(copy_context().run, _draw, samplers, measuring, job, plan): job for job in plan.jobs}
            try:
                for future in self._completed(asked):
                    try:
                        drawn = future.result()
                    except PromptUnusableError as error:
                        self._set_problem(plan, asked[future], str(error))
                        continue
                    except (EngineUnavailable, EngineRefused, EngineNonsense) as error:
                        failure = failure or error
                    else:
                        failure = failure or drawn.failure
                        formed = self._store(plan, selection, asked[future], drawn)
                        made, same = made + (formed or 0), same + (formed == 0)
                    if failure is not None:  # what is running comes to its end and is kept; nothing new begins
                        for waiting in asked:
                            waiting.cancel()
            finally:
                for future in asked:
                    future.cancel()
        with transaction(self.context.factory) as db:
            made += selection.choose_pooled(db)
            store.count(db, self.lease, plan, {"seconds": max(1, round(time.monotonic() - began))})
        self.made += made
        if failure is not None:
            raise failure
        if same and not made:
            raise NothingNewError(
                f"The answers to each of {same} prompts were the same, empty or going round in circles, even at a "
                "higher temperature.",
                mend="Raise the temperature in the project's sampling settings.",
            )

    def _completed(self, asked: dict[Future[Drawn], Job]) -> Iterator[Future[Drawn]]:
        """Futures as they complete, but for the cancelled; the lease is kept meanwhile."""
        pending = set(asked)
        while pending:
            self._keep_lease()
            if self.context.stopping:
                for future in pending:
                    future.cancel()
            done, pending = wait(pending, timeout=leases.LEASE_SECONDS / 6, return_when=FIRST_COMPLETED)
            yield from (future for future in done if not future.cancelled())

    def _keep_lease(self) -> None:
        if time.monotonic() - self._extended < leases.LEASE_SECONDS / 3:
            return
        with transaction(self.context.factory) as db:
            kept = leases.extend(db, self.lease)
        if kept is None:
            raise _LeaseLostError
        self.lease, self._extended = kept, time.monotonic()

    def _store(self, plan: Plan, selection: Selection, job: Job, drawn: Drawn) -> int | None:
        """Keep the answers; how many comparisons were made of them, None when that is decided later."""
        with transaction(self.context.factory) as db:
            store.count(db, self.lease, plan, drawn.counts)
            gone = store.gone(db, plan, job)
            if not gone:
                whole = drawn.failure is None
                if whole and not store.options_of(plan, job, drawn.answers):
                    return selection.drop(db, job, drawn.answers)
                answers = store.keep(db, self.lease, job.prompt.id, drawn.answers)
                return selection.take(db, Ready(job, answers, whole=whole))
        if plan.version_id in gone:
            raise _PromotedError
        return None  # a candidate was decided on meanwhile: the others of the wave go on

    def _set_problem(self, plan: Plan, job: Job, problem: str) -> None:
        with transaction(self.context.factory) as db:
            store.set_problem(db, job.prompt.id, problem)
            store.count(db, self.lease, plan, {"too_long": 1})


def _draw(samplers: dict[UUID, Sampler], rewards: Rewards | None, job: Job, plan: Plan) -> Drawn:
    """All answers of one job, the spare ones first; in a thread of its own."""
    whole, similarity = Drawn(), plan.settings.similarity
    for spare in (spare for wanted in job.wanted for spare in wanted.spare):
        if too_alike(spare, whole.answers, similarity) is None:  # they may be of different turns
            whole.answers.append(spare)
    for wanted in job.wanted:
        missing = wanted.count - sum(answer.version_id == wanted.version_id for answer in whole.answers)
        if missing <= 0:
            continue
        try:
            drawn = samplers[wanted.version_id].draw(job.prompt, missing, whole.answers, similarity)
        except (EngineUnavailable, EngineRefused, EngineNonsense) as error:
            if not whole.answers:
                raise
            drawn = Drawn(failure=error)
        whole.answers += drawn.answers
        whole.counts += drawn.counts
        if drawn.failure is not None:
            whole.failure = drawn.failure
            return whole
    if rewards is not None and job.kind == "current":
        try:
            whole.answers = rewards.measure(whole.answers)
        except EngineUnavailable as error:
            whole.failure = error
        whole.counts["unmeasured"] += sum(_unmeasured(answer) for answer in whole.answers)
    whole.counts = Counter({kind: count for kind, count in whole.counts.items() if count})
    return whole


def _unmeasured(answer: Answer) -> bool:
    return answer.id is None and "unmeasured" in answer.scores


def _give_up(context: Context, lease: Lease, error: Exception) -> None:
    """Back off, visibly; but an engine that sleeps for a round's sake is no failure, and one forgotten is woken."""
    asked = getattr(error, "retry_after_seconds", None) or 0.0
    wait_seconds = leases.backoff_seconds(lease.failures + 1, context.rng, at_least=asked)
    problem: str | None = f"{error} {error.mend}".strip() if isinstance(error, DomainError) else str(error)
    problem = problem or type(error).__name__
    failed = True
    if isinstance(error, EngineUnavailable) and _sleeps(context):
        with transaction(context.factory) as db:
            on_purpose = leases.somebody_trains(db)
        problem, failed, wait_seconds = None, False, 2.0
        if not on_purpose:
            _wake(context)
    logger.warning("no new pairs for %.0f s: %s", wait_seconds, error)
    with transaction(context.factory) as db:
        leases.give_up(db, lease, problem, wait_seconds=wait_seconds, failed=failed)


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
