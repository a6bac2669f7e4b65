"""From the log-probs of a batch's completions to what a loss reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.rounds.spec import LossSpec
from worker.trainer.examples import Example
from worker.trainer.losses import Labels, Pairs, Rankings, Side
from worker.trainer.packing import Batch, Plan


@dataclass(frozen=True, slots=True)
class Table:
    """The completions of a batch under policy and reference. C completions, the longest of L tokens."""

    policy: Tensor
    """(C, L), nats; 0 beyond a completion's end."""
    reference: Tensor
    """(C, L), nats; 0 beyond a completion's end; no gradient."""
    lengths: Tensor
    """(C,), tokens, as float."""
    collisions: Tensor | None = None
    """(C, L), nats: log Σ_v π_θ(v)² at every token; where they were asked for."""

    def side(self, index: Tensor) -> Side:
        """The completions at ``index``, (batch,)."""
        policy, reference = self.policy.index_select(0, index), self.reference.index_select(0, index)
        collisions = None if self.collisions is None else self.collisions.index_select(0, index)
        return Side(policy.sum(1), reference.sum(1), self.lengths[index], policy, reference, collisions)


def stored_reference(
    made: Plan, batch: Batch, reference: Mapping[str, Tensor], keys: Sequence[Sequence[str]]
) -> Tensor:
    """(C, L), nats, on the CPU: the stored reference log-probs of a batch's completions.

    Args:
        made: the pass whose rows ``batch`` holds.
        batch: C completions, the longest of L tokens.
        reference: stored log-probs by key, each (tokens,), nats.
        keys: the keys of every unit's completions; ``made`` indexes them.
    """
    table = torch.zeros(len(batch.lengths), batch.longest)
    for row, key in enumerate(key for unit in made.units for key in keys[unit]):
        logps = reference[key]
        table[row, : len(logps)] = logps
    return table


def table_of(batch: Batch, policy: Tensor, reference: Tensor, collisions: Tensor | None = None) -> Table:
    """What a loss is made of."""
    return Table(policy, reference, batch.lengths.to(torch.float32), collisions)


def pairs_of(
    examples: Sequence[Example], made: Plan, batch: Batch, table: Table, shift: Tensor | None = None
) -> tuple[Pairs, Tensor]:
    """The preferences of a batch, and their weights, (n,). ``made`` indexes ``examples``."""
    found = [(first, pair) for first, example in _placed(examples, made, batch) for pair in example.pairs]
    margin = torch.tensor([pair.margin for _, pair in found], dtype=torch.float32)
    ties = [pair.tie for _, pair in found]
    pairs = Pairs(
        table.side(torch.tensor([first + pair.chosen for first, pair in found], dtype=torch.long)),
        table.side(torch.tensor([first + pair.rejected for first, pair in found], dtype=torch.long)),
        margin,
        torch.tensor(ties, dtype=torch.bool) if any(ties) else None,
        shift,
    )
    return pairs, torch.tensor([pair.weight for _, pair in found], dtype=torch.float32)


def labels_of(
    examples: Sequence[Example], made: Plan, batch: Batch, table: Table, baseline: Tensor
) -> tuple[Labels, Tensor]:
    """The judged completions of a batch, and their weights, (n,)."""
    found = [(first, label) for first, example in _placed(examples, made, batch) for label in example.labels]
    completion = table.side(torch.tensor([first + label.completion for first, label in found], dtype=torch.long))
    desirable = torch.tensor([label.desirable for _, label in found], dtype=torch.bool)
    weight = torch.tensor([label.weight for _, label in found], dtype=torch.float32)
    return Labels(completion, desirable, baseline), weight


def rankings_of(examples: Sequence[Example], made: Plan, batch: Batch, table: Table) -> tuple[Rankings, Tensor]:
    """The rankings of a batch, and their weights, (n,)."""
    found = [(first, order) for first, example in _placed(examples, made, batch) for order in example.rankings]
    longest = max(len(order.places) for _, order in found)
    places = [[first + k for k in order.places] + [0] * (longest - len(order.places)) for first, order in found]
    tiers = [order.tiers + [-1] * (longest - len(order.tiers)) for _, order in found]
    at = torch.tensor(places, dtype=torch.long).flatten()
    log_ratio = (table.policy.sum(1) - table.reference.sum(1)).index_select(0, at)
    rankings = Rankings(log_ratio.view(len(found), longest), torch.tensor(tiers, dtype=torch.long))
    return rankings, torch.tensor([order.weight for _, order in found], dtype=torch.float32)


def assemble(
    examples: Sequence[Example],
    made: Plan,
    batch: Batch,
    policy_tokens: Tensor,
    reference: Mapping[str, Tensor],
    keys: Sequence[Sequence[str]],
) -> tuple[Pairs, Tensor]:
    """The preferences of a batch against stored reference log-probs, and their weights, (n,)."""
    table = table_of(batch, policy_tokens, stored_reference(made, batch, reference, keys))
    return pairs_of(examples, made, batch, table)


def read_by(
    loss: LossSpec, examples: Sequence[Example], made: Plan, batch: Batch, table: Table, baseline: Tensor | None
) -> tuple[Pairs | Labels | Rankings, Tensor]:
    """What ``loss`` reads of a batch, and the weights, (n,)."""
    if loss.shape == "labels":
        if baseline is None:
            raise ValueError("a loss on single answers needs the baseline of the step")
        return labels_of(examples, made, batch, table, baseline)
    if loss.shape == "rankings":
        return rankings_of(examples, made, batch, table)
    if loss.shift and baseline is None:
        raise ValueError("a loss with a shift needs the mean log-ratio of the steps before")
    return pairs_of(examples, made, batch, table, baseline)


def _placed(examples: Sequence[Example], made: Plan, batch: Batch) -> Iterator[tuple[int, Example]]:
    """Every example of the pass with the row of its first completion."""
    return ((batch.first_completion[unit], examples[unit]) for unit in made.units)
