"""Conservative DPO: every vote is taken to be wrong with a small probability."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def cdpo(pairs: Pairs, *, beta: float, label_smoothing: float) -> Tensor:
    """DPO with label smoothing.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        label_smoothing: ε in [0, ½): the probability that a preference is the wrong way round. 0 is DPO.

    Returns:
        (batch,), nats, unreduced: −(1−ε) log σ(d − δ) − ε log σ(−d − δ), d = βΔ: the expected loss of a vote that is
        flipped with probability ε, which keeps its margin when flipped. Without margin its slope is 0 at σ(d) = 1−ε.

    Source: E. Mitchell, A note on DPO with noisy preferences and relationship to IPO (2023).
    """
    d = beta * pairs.score_delta
    right = functional.logsigmoid(d - pairs.margin)
    flipped = functional.logsigmoid(-d - pairs.margin)
    return -(1 - label_smoothing) * right - label_smoothing * flipped
