"""Plackett-Luce: a whole ranking at once, as choices of the best among those that are left."""

import torch
from torch import Tensor

from worker.trainer.losses.rankings import Rankings

MOST_EQUALS = 6
"""Equals above the last tier of a ranking: all their orders are summed over, which takes 2^n steps."""

_NOTHING = -1e30
"""log of next to no weight; −∞ would make gradients of 0 · ∞."""


def plackett_luce(rankings: Rankings, *, beta: float) -> Tensor:
    """DPO on K-way rankings.

    Args:
        rankings: a batch of rankings; equals may come in any order, and all their orders are summed over.
        beta: β > 0, per nat.

    Returns:
        (batch,), nats, unreduced: −Σ_{k<K} [βρ(y_k) − logsumexp_{j≥k} βρ(y_j)]. log K! where the policy equals the
        reference and there are no equals; DPO for K = 2. The order within the last tier was not seen and costs nothing.

    Source: appendix A.3, arXiv:2305.18290.
    """
    place = rankings.tier >= 0
    score = torch.where(place, beta * rankings.log_ratio, _NOTHING)
    left = score.flip(1).logcumsumexp(1).flip(1)  # over this place and all behind it
    last = rankings.tier == rankings.tier.max(1, keepdim=True).values
    strict = -torch.where(place & ~last, score - left, 0.0).sum(1)
    tied = (place & ~last)[:, 1:] & (rankings.tier[:, 1:] == rankings.tier[:, :-1])
    rows = tied.any(1).nonzero()[:, 0].tolist()
    if not rows:
        return strict
    losses = list(strict)
    for row in rows:
        losses[row] = -_with_equals(score[row], rankings.tier[row])
    return torch.stack(losses)


def _with_equals(score: Tensor, tier: Tensor) -> Tensor:
    """(), nats: log-probability of one ranking. ``score`` and ``tier`` are (K,)."""
    total = score.new_zeros(())
    for number in sorted({int(t) for t in tier.tolist() if t >= 0})[:-1]:
        total = total + _first(score[tier == number], score[tier > number].logsumexp(0))
    return total


def _first(equals: Tensor, rest: Tensor) -> Tensor:
    """(), nats: log-probability that all of ``equals``, (n,), come before the rest, in whichever order.

    ``rest`` is the logsumexp of the others' scores. Over sets S of those not placed yet, smallest first:
    P(S) = Σ_{i∈S} e^{s_i}/(Σ_{j∈S} e^{s_j} + e^{rest}) · P(S∖i).
    """
    count = len(equals)
    if count > MOST_EQUALS:
        raise ValueError(f"{count} equals above the last tier, at most {MOST_EQUALS} can be summed over")
    known = [equals.new_zeros(())]
    for subset in range(1, 1 << count):
        members = [i for i in range(count) if subset >> i & 1]
        ways = torch.stack([equals[i] + known[subset ^ (1 << i)] for i in members]).logsumexp(0)
        known.append(ways - torch.logaddexp(equals[members].logsumexp(0), rest))
    return known[-1]
