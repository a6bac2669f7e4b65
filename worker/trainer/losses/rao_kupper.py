"""DPO with ties after Rao and Kupper: people call a tie where the difference is below a threshold."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def rao_kupper(pairs: Pairs, *, beta: float, nu: float) -> Tensor:
    """DPO-RK: DPO on a model of choices in which a tie is possible.

    Args:
        pairs: a batch of preferences and ties; the margin of a tie is not read.
        beta: β > 0, per nat.
        nu: ν ≥ 1, α = log ν the threshold in nats. 1 is DPO, and then a tie is impossible: its loss is infinite.

    Returns:
        (batch,), nats, unreduced, d = βΔ: for a win −log σ(d − δ − α), for a tie
        −[log(ν²−1) + log σ(d−α) + log σ(−d−α)].

    Source: arXiv:2409.17431.
    """
    d, alpha = beta * pairs.score_delta, math.log(nu)
    win = -functional.logsigmoid(d - pairs.margin - alpha)
    if pairs.tie is None:
        return win
    room = math.log(nu * nu - 1) if nu > 1 else -math.inf
    tie = -(room + functional.logsigmoid(d - alpha) + functional.logsigmoid(-d - alpha))
    return torch.where(pairs.tie, tie, win)
