"""Length-normalised DPO: log-ratios per token, so that a long answer has no longer lever."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def length_normalised(pairs: Pairs, *, beta: float) -> Tensor:
    """DPO on mean log-ratios.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat a token; larger than DPO's by about the length of an answer.

    Returns:
        (batch,), nats, unreduced: −log σ(βρ_w/|y_w| − βρ_l/|y_l| − δ).

    Source: arXiv:2411.15124 (Tülu 3).
    """
    chosen, rejected = pairs.chosen, pairs.rejected
    difference = chosen.score / chosen.length - rejected.score / rejected.length
    return -functional.logsigmoid(beta * difference - pairs.margin)
