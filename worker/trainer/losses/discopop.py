"""DiscoPOP: a loss that a language model found in a search, logistic behind and exponential ahead."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs

RIGHT_WAY_TAU = 0.11
"""From this τ on, to two figures, the slope is with the vote everywhere."""


def discopop(pairs: Pairs, *, beta: float, discopop_tau: float) -> Tensor:
    """Log-Ratio Modulated Loss, the best of Discovered Preference Optimization.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        discopop_tau: τ in (0, 1]: how sharply it turns from one to the other around x = 0. Above 1 it would grow
            exponentially behind.

    Returns:
        (batch,), unreduced: (1 − σ(x/τ)) · −log σ(x) + σ(x/τ) · e^−x, x = βΔ − δ. ½ log 2 + ½ at x = 0. Not convex:
        below ``RIGHT_WAY_TAU`` its slope around x = 0 is against the vote, from −0.119 to 0.072 at τ = 0.05.

    Source: eq. 5, arXiv:2406.08414.
    """
    x = beta * pairs.score_delta - pairs.margin
    logistic = (-x / discopop_tau).sigmoid() * -functional.logsigmoid(x)  # 1 − σ(y) = σ(−y)
    exponential = (functional.logsigmoid(x / discopop_tau) - x).exp()  # e^−x alone overflows far behind
    return logistic + exponential
