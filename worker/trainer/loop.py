"""The training loop: optimiser steps, evaluations, checkpoints. It saves nothing else and prints nothing."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from app.rounds.spec import TrainingSettings
from worker.trainer.checkpoint import Checkpoints, RandomState, State, restore, restore_reference
from worker.trainer.distributed import ALONE, Crew, whole
from worker.trainer.errors import NotFiniteError, OutOfMemoryError, StoppedError, is_out_of_memory
from worker.trainer.examples import Example
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.losses.kto import baseline as kto_baseline
from worker.trainer.memory import heap
from worker.trainer.metrics import DISPLACEMENT_WINDOW_STEPS, Event, Tally, displacement_alarm
from worker.trainer.moving import MovingReference
from worker.trainer.objective import PAIR_LOG_RATIO, Baselines, Objective, Scored
from worker.trainer.optimizer import make_optimizer
from worker.trainer.order import learning_rate, steps
from worker.trainer.packing import Batch, ForwardPath, Plan, Unit, build, plan
from worker.trainer.pairing import stored_reference, table_of
from worker.trainer.policy import Policy
from worker.trainer.reference import completion_keys
from worker.trainer.split import Split
from worker.trainer.stopping import KL_WINDOW_STEPS, comparable_loss, judge


@dataclass(frozen=True, slots=True)
class Passes:
    """How groups become forward passes on this machine."""

    path: ForwardPath
    tokens: int
    """Budget of a pass, padding included."""
    row_length: int | None
    """Tokens that rows are filled up to; None: as long as the longest group of the pass."""

    def plan(self, examples: Sequence[Example], chosen: Sequence[int]) -> list[Plan]:
        """The passes over the ``chosen`` examples."""
        return self.plan_units([example.unit for example in examples], chosen)

    def plan_units(self, units: Sequence[Unit], chosen: Sequence[int]) -> list[Plan]:
        """The passes over the ``chosen`` units."""
        return plan(units, chosen, self.path, self.tokens, self.row_length)


class Loop:
    """One job's training. ``run`` goes from the newest checkpoint, or from the start, to the last step."""

    def __init__(
        self,
        policy: Policy,
        forward: Forward,
        settings: TrainingSettings,
        passes: Passes,
        *,
        train: Split,
        held_out: Split,
        checkpoints: Checkpoints,
        fingerprint: str,
        stop: Stop,
        emit: Callable[[Event], None],
        on_tokens: Callable[[int], None],
        moving: MovingReference | None = None,
        crew: Crew = ALONE,
    ) -> None:
        """``emit`` hears what happened; ``on_tokens`` hears the cost of every pass, in tokens forward.

        ``moving`` is the reference of the loss, where that moves; ``crew``: the processes that train together.
        """
        self.policy = policy
        self._forward, self._settings, self._passes = forward, settings, passes
        self._train, self._held_out = train, held_out
        self._checkpoints, self._stop, self._emit, self._on_tokens = checkpoints, stop, emit, on_tokens
        self._objective, self._moving, self._crew = Objective(settings), moving, crew
        self._parameters = policy.trainable
        self._optimizer = make_optimizer(self._parameters.values(), settings)
        self._steps = steps(train.examples, settings)
        self._saved_at = (0, time.monotonic())
        self.state = State(fingerprint=fingerprint, step=0, tokens=0, seconds=0.0)
        self.last: dict[str, float] = {}
        """Figures of the last training step."""
        self.stopped: str | None = None
        """Why training ended before its last step."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole job."""
        return len(self._steps)

    def best_weights(self) -> dict[str, Tensor]:
        """The weights of ``state.best_step``, whole. Raises ManifestError if they are gone."""
        return self._checkpoints.best(int(self.state.best_step or 0))

    def resume(self) -> int:
        """Take up the newest checkpoint, if there is one; returns the steps it had done."""
        found = self._checkpoints.newest(self.state.fingerprint)
        if found is not None:
            self.state, directory = found
            restore(directory, self._parameters, self._optimizer)
            if self._moving is not None:
                self._moving.restore(restore_reference(directory))
            self._saved_at = (self.state.step, time.monotonic())
        return self.state.step

    def run(self) -> State:
        """Train to the last step, or to where the settings stop it (``stopped`` says why).

        Raises:
            StoppedError: a stop was asked for; a checkpoint is written.
            NotFiniteError: the loss or gradient is not finite; nothing was changed by it, and a checkpoint is written.
            OutOfMemoryError: a pass does not fit; a checkpoint is written.
        """
        while True:
            heap().settle()
            began, random = time.monotonic(), RandomState.now()
            try:
                self._stop.check(f"{self.state.step} of {len(self._steps)} steps are done")
                if self._evaluation_due():
                    self._evaluate()
                    began = time.monotonic()
                if self.stopped is not None or self.state.step == len(self._steps):
                    return self.state
                if self._checkpoint_due():
                    self._save(random)
                figures, tokens = self._optimise(self._steps[self.state.step])
            except (StoppedError, NotFiniteError) as error:
                raise type(error)(f"{error}; {self._keep(random)}") from error
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self._crew.size > 1:  # the others are in the middle of a pass
                    raise
                self._optimizer.zero_grad(set_to_none=True)
                raise OutOfMemoryError(
                    f"out of memory in step {self.state.step + 1}; {self._keep(random)}; lower tokens_per_row "
                    f"(now {self._settings.tokens_per_row}) or max_length, use gradient_checkpointing or method "
                    "'lora', and start again"
                ) from error
            self._after_step(figures, tokens, time.monotonic() - began)

    def _optimise(self, chosen: Sequence[int]) -> tuple[dict[str, float], int]:
        """One optimiser step over the ``chosen`` examples, in as many passes as they need."""
        step, total = self.state.step, len(self._steps)
        weight_sum = sum(self._train.examples[index].weight for index in chosen)
        tally, tokens = Tally(), 0
        self._optimizer.zero_grad(set_to_none=not self._forward.holds_gradients)
        if self._crew.size > 1:  # dropout differs between processes and comes again after a restart
            torch.manual_seed((self._settings.seed * 1_000_003 + step) * self._crew.size + self._crew.rank)
        baseline = self._baseline(self._train, chosen)
        for made, counts in self._dealt(self._train, chosen):
            self._stop.check(f"step {step + 1} of {total} was not finished")
            batch = build(self._train.units, made, self._passes.path)
            with self.policy.dropout():
                scored = self._scored(self._train, made, batch, baseline)
                # Each pass adds its share of the step's weighted mean: any split into passes has the same gradient.
                # Over several processes gradients are averaged, so that each counts as often as there are processes.
                share = self._crew.size / weight_sum if counts else 0.0
                ((scored.losses * scored.weight).sum() * share).backward()  # type: ignore[no-untyped-call]
            if counts:
                tally.add(scored.columns, len(scored.losses))
                tokens += batch.tokens
        tally, tokens = self._together(tally, tokens)
        self._on_tokens(3 * tokens)
        figures = tally.means() | {"pairs": self._train.compared(chosen)}
        parameters = list(self._parameters.values())
        size = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = float(whole(size))
        if not math.isfinite(figures["loss"]) or not math.isfinite(norm):
            self._optimizer.zero_grad(set_to_none=True)
            raise NotFiniteError(
                f"step {step + 1} of {total}: loss {figures['loss']:g}, gradient norm {norm:g}; the model was not "
                f"changed by it and nothing is published; lower learning_rate (now {self._settings.learning_rate:g})"
            )
        if norm > self._settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._settings.max_grad_norm, size)
        rate = learning_rate(step, total, self._settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return figures | {"grad_norm": norm, "learning_rate": rate}, tokens

    def _after_step(self, figures: dict[str, float], tokens: int, seconds: float) -> None:
        state = self.state
        state.step += 1
        state.tokens += tokens
        state.seconds += seconds
        if "chosen_log_ratio" in figures:  # a step of ties or of bad answers has none
            state.recent_chosen = [*state.recent_chosen, figures["chosen_log_ratio"]][-DISPLACEMENT_WINDOW_STEPS:]
        if PAIR_LOG_RATIO in figures:
            fixed = (figures["chosen_log_ratio"] + figures["rejected_log_ratio"]) / 2
            state.shift.learn(figures[PAIR_LOG_RATIO], fixed)
        if "kl" in figures:
            state.recent_kl = [*state.recent_kl, figures["kl"]][-KL_WINDOW_STEPS:]
        self.last = figures | {"tokens_per_second": tokens / seconds}
        self._emit({"kind": "train", "step": state.step, "steps": len(self._steps)} | self.last)
        self._watch(None)
        if self._moving is not None and self._moving.after_step(state.step, self.policy.model):
            state.shift.reference_moved()
            self._emit({"kind": "reference", "step": state.step})
        self._judge()

    def _evaluation_due(self) -> bool:
        step, every = self.state.step, self._settings.eval_every_steps
        if not self._held_out.examples or any(figures["step"] == step for figures in self.state.evaluations):
            return False
        ends = self.stopped is not None or step in (0, len(self._steps))
        return ends or (every is not None and step % every == 0)

    def _checkpoint_due(self) -> bool:
        saved_step, saved_time = self._saved_at
        if self.state.step in (saved_step, len(self._steps)):
            return False
        every = self._settings.checkpoint_every_steps
        if every is not None and self.state.step - saved_step >= every:
            return True
        late = time.monotonic() - saved_time >= self._settings.checkpoint_every_seconds
        return self._crew.first(late)

    def _evaluate(self) -> None:
        """Figures of the held-out preferences."""
        tally, tokens = Tally(), 0
        everything = range(len(self._held_out.examples))
        with torch.no_grad():
            baseline = self._baseline(self._held_out, everything)
            for made, counts in self._dealt(self._held_out, everything):
                self._stop.check(f"evaluation after step {self.state.step} was not finished")
                batch = build(self._held_out.units, made, self._passes.path)
                scored = self._scored(self._held_out, made, batch, baseline)
                if counts:
                    tally.add(scored.columns, len(scored.losses))
                    tokens += batch.tokens
                heap().settle()
        tally, tokens = self._together(tally, tokens)
        self._on_tokens(tokens)
        compared = {"pairs": self._held_out.compared(everything), "prompts": self._held_out.prompts(everything)}
        figures = {"step": self.state.step} | tally.means() | compared
        self.state.evaluations.append(figures)
        self._emit({"kind": "eval", "steps": len(self._steps)} | figures)
        self._watch(figures.get("chosen_log_ratio"))
        self._judge()

    def _judge(self) -> None:
        """Keep the weights if they are the best so far, and note if training is to stop here."""
        verdict = judge(self.state.evaluations, self.state.recent_kl, self._settings)
        if verdict.best_step == self.state.step and self.state.best_step != self.state.step:
            self.state.best_step = self.state.step
            if self._settings.publish == "best" and self.state.step < len(self._steps):
                self._checkpoints.save_best(self.state.step, self._parameters)
            first, last = (comparable_loss(self.state.evaluations[i]) for i in (0, -1))
            self._emit({"kind": "best", "step": self.state.step, "loss": last, "start_loss": first})
        if verdict.stop is not None and self.stopped is None and self.state.step < len(self._steps):
            self.stopped = verdict.stop
            self._emit({"kind": "early_stop", "step": self.state.step, "reason": verdict.stop})

    def _dealt(self, split: Split, chosen: Sequence[int]) -> list[tuple[Plan, bool]]:
        """This process's passes over the ``chosen`` examples, each with whether it counts."""
        plain = self._passes.path == "plain"
        units = split.units
        parts = self._crew.share(chosen, lambda i: units[i].plain_total if plain else units[i].shared_length)
        return self._crew.deal(lambda part: self._passes.plan_units(units, part), parts)

    def _together(self, tally: Tally, tokens: int) -> tuple[Tally, int]:
        """What all processes counted."""
        whole_tally, all_tokens = Tally(), 0
        for told in self._crew.gather({"tally": asdict(tally), "tokens": tokens}):
            whole_tally.merge(Tally(**told["tally"]))
            all_tokens += told["tokens"]
        return whole_tally, all_tokens

    def _scored(self, split: Split, made: Plan, batch: Batch, baseline: Baselines | None) -> Scored:
        """Loss and figures of one pass."""
        logps = self._forward(batch, collisions=self._objective.collisions)
        reference = stored_reference(made, batch, split.reference, split.keys)
        table = table_of(batch, logps.tokens, reference, logps.collisions)
        moved = None if self._moving is None else self._moving(batch)
        return self._objective(split, made, batch, table, moved_reference=moved, baseline=baseline)

    @torch.no_grad()
    def _baseline(self, split: Split, chosen: Sequence[int]) -> Baselines | None:
        """What a loss that reads it holds the ``chosen`` examples against.

        z0 over their mismatched completions, or the shift of the steps so far.
        """
        if self._objective.needs_shift:
            return Baselines(torch.tensor(self.state.shift.moved), torch.tensor(self.state.shift.fixed))
        if not self._objective.needs_baseline:
            return None
        units = [split.mismatched[index] for index in chosen if index in split.mismatched]
        if not units:
            return Baselines(torch.zeros(()), torch.zeros(()))
        keys = completion_keys(units)
        ratios, fixed = [], []  # of all of them in every process: they are few tokens, and z0 is one number
        for made in self._passes.plan_units(units, range(len(units))):
            self._stop.check(f"step {self.state.step + 1} of {len(self._steps)} was not finished")
            batch = build(units, made, self._passes.path)
            policy = self._forward(batch).tokens
            own = stored_reference(made, batch, split.reference, keys)
            held = own if self._moving is None else self._moving(batch)
            ratios.append((policy - held).sum(1))
            fixed.append((policy - own).sum(1))
            self._on_tokens(batch.tokens)
        return Baselines(kto_baseline(torch.cat(ratios)), kto_baseline(torch.cat(fixed)))

    def _watch(self, held_out: float | None) -> None:
        alarm = displacement_alarm(
            self.state.recent_chosen, held_out, self._settings.displacement_alarm_nats, self._settings.loss
        )
        if alarm is not None and self.state.alarm is None:
            self.state.alarm = alarm
            self._emit({"kind": "alarm", "step": self.state.step, "message": alarm})

    def _save(self, random: RandomState) -> None:
        reference = {} if self._moving is None else self._moving.state()
        directory = self._checkpoints.save(self.state, self._parameters, self._optimizer, random, reference)
        self._saved_at = (self.state.step, time.monotonic())
        self._emit({"kind": "checkpoint", "step": self.state.step, "path": directory.name})

    def _keep(self, random: RandomState) -> str:
        """Write a checkpoint if there is anything new in it; returns what to tell about it."""
        if self.state.step == 0:
            return "no step was finished, so the next start begins again"
        if self._saved_at[0] != self.state.step:
            self._save(random)
        return f"the checkpoint after step {self.state.step} is kept and the next start goes on from it"
