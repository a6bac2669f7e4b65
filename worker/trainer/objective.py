"""The objective of one pass: the loss of every judgement, and the figures that are told of it."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from app.rounds.spec import LOSSES as SPECS
from app.rounds.spec import TrainingSettings
from worker.trainer.losses import LOSSES, Labels, Pairs, Rankings
from worker.trainer.losses.divergences import divergence
from worker.trainer.losses.wpo import wpo_weight
from worker.trainer.metrics import Columns, label_columns, pair_columns
from worker.trainer.packing import Batch, Plan
from worker.trainer.pairing import Table, pairs_of, read_by
from worker.trainer.split import Split

PAIR_LOG_RATIO = "pair_log_ratio"
"""The figure that a shift is the mean of: ρ of the chosen and the rejected answer, halved, against the loss's own
reference."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The judgements of one pass."""

    losses: Tensor
    """(n,), one a judgement, unreduced; weighing by WPO is in them."""
    weight: Tensor
    """(n,), how much each counts."""
    columns: Columns
    """Figures by name. 'loss' is what is minimised; 'comparable_loss', where that differs, is against the job's
    reference and without WPO's weights, so that one step's can be held against another's."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """What a step's answers are held against. Each (), nats: z0 of a loss on single answers, or the shift of BCO."""

    moved: Tensor
    """Against the reference of the loss."""
    fixed: Tensor
    """Against the job's reference, which figures are against."""


class Objective:
    """The loss that the settings choose, with its options."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.spec = SPECS[settings.loss]
        self.collisions = settings.pair_weighting == "wpo"
        """Whether the forward pass has to tell log Σ_v p(v)², too."""
        self.needs_baseline = self.spec.shape == "labels"
        """Whether a step needs the log-ratios of mismatched completions first."""
        self.needs_shift = self.spec.shift
        """Whether a step needs the mean log-ratio of the steps before."""
        self._loss = partial(LOSSES[settings.loss], **settings.loss_settings)
        self._divergence = divergence(settings.f_divergence, settings.f_divergence_alpha)

    def __call__(
        self,
        split: Split,
        made: Plan,
        batch: Batch,
        table: Table,
        *,
        moved_reference: Tensor | None = None,
        baseline: Baselines | None = None,
    ) -> Scored:
        """Loss and figures of a pass.

        Args:
            split: where the examples come from.
            made: the pass whose rows ``batch`` holds; it indexes them.
            batch: C completions, the longest of L tokens.
            table: the completions under the policy and under the job's reference, which figures are against.
            moved_reference: (C, L), nats: under the reference as it has moved, which the loss is against; None: the
                job's reference.
            baseline: z0 of the step, for a loss on single answers; the shift, for one that has it.
        """
        held_to = table if moved_reference is None else replace(table, reference=moved_reference)
        moved, fixed = (None, None) if baseline is None else (baseline.moved, baseline.fixed)
        read, weight = read_by(self.spec, split.examples, made, batch, held_to, moved)
        losses = self._of(read)
        columns = {"loss": (losses, weight)}
        own = read
        if held_to is not table:
            own, _ = read_by(self.spec, split.examples, made, batch, table, fixed)
            with torch.no_grad():
                columns["comparable_loss"] = (self._of(own), weight)
        if self.collisions and isinstance(read, Pairs):
            trust = wpo_weight(read)
            columns = {"comparable_loss": columns["loss"]} | columns
            losses = losses * trust
            columns |= {"loss": (losses, weight), "wpo_weight": (trust, weight)}
        if isinstance(read, Pairs) and read.shift is not None:
            both = (read.chosen.log_ratio + read.rejected.log_ratio) / 2
            columns |= {"shift": (read.shift.expand_as(weight), weight), PAIR_LOG_RATIO: (both, weight)}
        if isinstance(own, Labels):
            columns |= label_columns(own, weight)
        if split.paired:
            if isinstance(own, Pairs):
                pairs, pair_weight = own, weight
            else:
                pairs, pair_weight = pairs_of(split.examples, made, batch, table)
            among_pairs = pair_columns(pairs, pair_weight)
            # Of single answers the sides are told by label, and how they stand to each other by pair.
            told = ("margin", "accuracy") if isinstance(read, Labels) else among_pairs
            columns |= {name: among_pairs[name] for name in told}
        return Scored(losses, weight, columns)

    def _of(self, read: Pairs | Labels | Rankings) -> Tensor:
        """(n,): the loss of every judgement, on the rewards of the divergence."""
        losses: Tensor = self._loss(read.under(self._divergence) if isinstance(read, Pairs) else read)
        return losses
