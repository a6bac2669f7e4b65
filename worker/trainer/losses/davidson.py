"""DPO with ties after Davidson: a tie is as likely as the geometric mean of the two wins."""

import math

import torch
from torch import Tensor

from worker.trainer.losses.pairs import Pairs


def davidson(pairs: Pairs, *, beta: float, nu: float) -> Tensor:
    """DPO-D: DPO on a model of choices in which a tie is possible.

    Args:
        pairs: a batch of preferences and ties; the margin of a tie is not read.
        beta: β > 0, per nat.
        nu: ν ≥ 0. 0 is DPO, and then a tie is impossible: its loss is infinite.

    Returns:
        (batch,), nats, unreduced, with Z(d) = 1 + e^{−d} + 2νe^{−d/2} and d = βΔ: for a win log Z(d − δ), for a tie
        −log 2ν + d/2 + log Z(d).

    Source: arXiv:2409.17431.
    """
    d, log_2nu = beta * pairs.score_delta, math.log(2 * nu) if nu > 0 else -math.inf
    win = _log_z(d - pairs.margin, log_2nu)
    if pairs.tie is None:
        return win
    tie = -log_2nu + d / 2 + _log_z(d, log_2nu)
    return torch.where(pairs.tie, tie, win)


def _log_z(d: Tensor, log_2nu: float) -> Tensor:
    """(batch,), nats: log(1 + e^{−d} + 2νe^{−d/2})."""
    return torch.stack([torch.zeros_like(d), -d, log_2nu - d / 2]).logsumexp(0)
