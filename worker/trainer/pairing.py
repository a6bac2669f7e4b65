"""From the log-probs of a batch's completions to the preferences a loss reads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from worker.trainer.examples import Example
from worker.trainer.losses import Pairs, Side
from worker.trainer.packing import Batch, Plan


def assemble(
    examples: Sequence[Example],
    made: Plan,
    batch: Batch,
    policy_tokens: Tensor,
    reference: Mapping[str, Tensor],
    keys: Sequence[Sequence[str]],
) -> tuple[Pairs, Tensor]:
    """The preferences of a batch, and their weights, (batch,).

    Args:
        examples: all examples of the split; ``made`` and ``keys`` index them.
        made: the pass whose rows ``batch`` holds.
        batch: C completions, the longest of L tokens.
        policy_tokens: (C, L), nats, under the policy.
        reference: stored log-probs by key, each (tokens,), nats.
        keys: the keys of every example's completions.
    """
    device = policy_tokens.device
    chosen, rejected, weights, margins = [], [], [], []
    for unit in made.units:
        first = batch.first_completion[unit]
        for pair in examples[unit].pairs:
            chosen.append(first + pair.chosen)
            rejected.append(first + pair.rejected)
            weights.append(pair.weight)
            margins.append(pair.margin)
    reference_tokens = torch.zeros(policy_tokens.shape)
    row = 0
    for unit in made.units:
        for key in keys[unit]:
            logps = reference[key]
            reference_tokens[row, : len(logps)] = logps
            row += 1
    reference_tokens = reference_tokens.to(device)
    lengths = batch.lengths.to(device=device, dtype=torch.float32)
    sides = []
    for index in (torch.tensor(chosen, device=device), torch.tensor(rejected, device=device)):
        policy, ours = policy_tokens.index_select(0, index), reference_tokens.index_select(0, index)
        sides.append(Side(policy.sum(1), ours.sum(1), lengths[index], policy, ours))
    pairs = Pairs(sides[0], sides[1], torch.tensor(margins, device=device))
    return pairs, torch.tensor(weights, device=device)
