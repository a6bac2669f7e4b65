"""SPPO: each answer is drawn to a likelihood of its own, up for the one that won and down for the one that lost."""

from torch import Tensor

from worker.trainer.losses.pairs import Pairs


def sppo_hard(pairs: Pairs, *, beta: float) -> Tensor:
    """Self-Play Preference Optimization, with the vote itself as the probability of winning: 1 or 0.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat: 1/η of the paper. The targets are ±1/(2β) nats.

    Returns:
        (batch,), nats², unreduced: (ρ_w − (1+δ)/(2β))² + (ρ_l + (1+δ)/(2β))². A margin moves each target by δ/(2β).

    Source: eq. 4.7, arXiv:2405.00675, with P = 1 for the chosen and P = 0 for the rejected answer.
    """
    target = (1 + pairs.margin) / (2 * beta)
    return (pairs.chosen.log_ratio - target).square() + (pairs.rejected.log_ratio + target).square()
