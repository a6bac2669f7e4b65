"""Making comparisons of sampled answers: at once where chance decides, else out of a wave of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

from sqlalchemy.orm import Session

from worker.refill import store
from worker.refill.answers import Answer
from worker.refill.lease import Lease
from worker.refill.plan import Job, Plan
from worker.refill.strategies import Chance, Option, Strategy, build, choose


@dataclass(frozen=True, slots=True)
class Ready:
    """A prompt's answers, stored."""

    job: Job
    answers: list[Answer]
    whole: bool
    """All that were asked for; False when the engine failed before."""


class Selection:
    """One wave's choice."""

    def __init__(self, db: Session, lease: Lease, plan: Plan, rng: Random) -> None:
        """Builds the project's strategy, if anything of the wave is left to it."""
        self._lease = lease
        self._plan = plan
        self._rng = rng
        pooled = any(job.pooled and not job.prompt.held_out for job in plan.jobs)
        self._strategy = build(db, lease.project_id, plan.settings.strategy) if pooled else Chance()
        self._pool: list[Ready] = []

    @property
    def reads_rewards(self) -> bool:
        """Whether answers have to be measured."""
        return self._strategy.reads_rewards

    def take(self, db: Session, ready: Ready) -> int | None:
        """A prompt's answers are here; comparisons made of them, None when they wait for the others of the wave.

        A prompt whose answers are not whole keeps its turn and its answers.
        """
        options = store.options_of(self._plan, ready.job, ready.answers)
        if not options or (ready.job.pooled and not ready.whole):
            return 0
        if ready.job.pooled:
            self._pool.append(ready)
            return None
        # Between versions one comparison; of one version's answers as many as the project wants.
        per_prompt = self._plan.settings.pairs_per_prompt if ready.job.kind == "current" else 1
        return self._form(db, [ready], Chance(), options, min(per_prompt, len(options)), per_prompt, exploration=1.0)

    def drop(self, db: Session, job: Job, answers: Sequence[Answer]) -> int:
        """Nothing can be made of a prompt's answers: they are not kept, and the prompt waits for its next turn."""
        store.count(db, self._lease, self._plan, {"no_pair": 1})
        store.count_attempt(db, job.prompt.id)
        store.pass_over(db, answers)
        return 0

    def choose_pooled(self, db: Session) -> int:
        """Make the wave's comparisons; how many. What is not chosen is passed over for good.

        Prompts that are held out are drawn evenly, at the share at which prompts are chosen at all.
        """
        plan = self._plan
        pool = [ready for ready in self._pool if not store.gone(db, plan, ready.job)]
        if not pool:
            return 0
        per_prompt = plan.settings.pairs_per_prompt
        held_out = [ready for ready in pool if ready.job.prompt.held_out]
        training = [ready for ready in pool if not ready.job.prompt.held_out]
        share = min(1.0, plan.pooled_count / len(pool))
        made = 0
        drawn = [ready for ready in held_out if self._rng.random() < share]
        for ready in drawn:
            options = store.options_of(plan, ready.job, ready.answers)
            made += self._form(
                db, [ready], Chance(), options, min(per_prompt, len(options)), per_prompt, exploration=1.0, share=share
            )
        options = [option for ready in training for option in store.options_of(plan, ready.job, ready.answers)]
        count = max(1, round(share * len(training))) * per_prompt if training else 0
        exploration = plan.settings.exploration or 1.0
        made += self._form(db, training, self._strategy, options, count, per_prompt, exploration=exploration)
        for ready in pool:
            store.pass_over(db, ready.answers)
        passed = [ready for ready in held_out if ready not in drawn]
        for ready in passed:
            store.count_attempt(db, ready.job.prompt.id)
        store.count(db, self._lease, plan, {"passed_over": len(passed)})
        self._pool.clear()
        return made

    def _form(
        self,
        db: Session,
        prompts: Sequence[Ready],
        strategy: Strategy,
        options: Sequence[Option],
        count: int,
        per_prompt: int,
        *,
        exploration: float,
        share: float = 1.0,
    ) -> int:
        """Choose and queue; ``share`` is the probability with which the prompts themselves were drawn before."""
        jobs: dict[UUID, Job] = {ready.job.prompt.id: ready.job for ready in prompts}
        chosen = choose(
            strategy,
            options,
            count,
            per_prompt=per_prompt,
            exploration=exploration,
            rng=self._rng,
            share=share,
        )
        name = strategy.name
        for item in chosen:
            job = jobs[item.option.prompt_id]
            store.form(db, self._lease, self._plan, job, item, name, self._rng)
        for prompt_id in jobs:
            store.count_attempt(db, prompt_id)
        left = len(jobs) - len({item.option.prompt_id for item in chosen})
        store.count(db, self._lease, self._plan, {"formed": len(chosen), "passed_over": left})
        return len(chosen)
