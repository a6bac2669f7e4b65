"""EXO: DPO's divergence the other way round, which gives up pairs that the policy cannot fit."""

import math

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def exo_pair(pairs: Pairs, *, beta: float, label_smoothing: float) -> Tensor:
    """Efficient Exact Optimization on preferences: KL from the policy's choice between two answers to people's.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        label_smoothing: ε in (0, ½): the probability that a preference is the wrong way round. At 0 the loss would be
            infinite.

    Returns:
        (batch,), nats, unreduced: σ(x) [log σ(x) − log(1−ε)] + σ(−x) [log σ(−x) − log ε], x = βΔ − δ. 0 at its
        minimum, σ(x) = 1 − ε; −log ε far behind, −log(1−ε) far ahead.

    Source: eq. 16, arXiv:2402.00856.
    """
    x = beta * pairs.score_delta - pairs.margin
    won, lost = functional.logsigmoid(x), functional.logsigmoid(-x)
    return won.exp() * (won - math.log1p(-label_smoothing)) + lost.exp() * (lost - math.log(label_smoothing))
