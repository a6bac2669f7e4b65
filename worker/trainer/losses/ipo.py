"""IPO: a squared loss that aims at a finite difference, so that certain votes do not drive it to infinity.

Its authors confirmed that their results are of the form averaged over tokens; the paper prints the sum. Both are here.
"""

from torch import Tensor

from worker.trainer.losses.pairs import Pairs


def ipo(pairs: Pairs, *, tau: float) -> Tensor:
    """Identity Preference Optimization, averaged over tokens.

    Args:
        pairs: a batch of preferences.
        tau: τ > 0; the target is 1/(2τ) nats a token.

    Returns:
        (batch,), nats² a token², unreduced: (ρ_w/|y_w| − ρ_l/|y_l| − 1/(2τ) − δ/τ)². A margin moves the target by δ/τ.

    Source: eq. 17, arXiv:2310.12036, with ρ/|y| for ρ.
    """
    chosen, rejected = pairs.chosen, pairs.rejected
    difference = chosen.score / chosen.length - rejected.score / rejected.length
    return (difference - (0.5 + pairs.margin) / tau).square()


def ipo_sum(pairs: Pairs, *, tau: float) -> Tensor:
    """Identity Preference Optimization, summed over tokens.

    Args:
        pairs: a batch of preferences.
        tau: τ > 0; the target is 1/(2τ) nats.

    Returns:
        (batch,), nats², unreduced: (Δ − 1/(2τ) − δ/τ)². A margin moves the target by δ/τ.

    Source: eq. 17, arXiv:2310.12036.
    """
    return (pairs.score_delta - (0.5 + pairs.margin) / tau).square()  # eq. 17, arXiv:2310.12036
