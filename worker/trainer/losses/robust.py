"""Robust DPO: an unbiased estimate of DPO's loss from votes that are flipped at a known rate."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def robust(pairs: Pairs, *, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        label_smoothing: ε in [0, ½): the rate at which preferences are flipped. 0 is DPO.

    Returns:
        (batch,), nats, unreduced: [−(1−ε) log σ(d − δ) + ε log σ(−d − δ)]/(1−2ε), d = βΔ. May be negative: its mean
        over flips is DPO's loss on the true preference.

    Source: arXiv:2403.00409.
    """
    d = beta * pairs.score_delta
    right = functional.logsigmoid(d - pairs.margin)
    flipped = functional.logsigmoid(-d - pairs.margin)
    return (-(1 - label_smoothing) * right + label_smoothing * flipped) / (1 - 2 * label_smoothing)
