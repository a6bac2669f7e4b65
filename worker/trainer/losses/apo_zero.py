"""APO-zero: the chosen answer goes up and the rejected one down, each against the reference by itself."""

from torch import Tensor

from worker.trainer.losses.pairs import Pairs


def apo_zero(pairs: Pairs, *, beta: float) -> Tensor:
    """Anchored Preference Optimization, zero variant.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.

    Returns:
        (batch,), unreduced: 1 − σ(βρ_w − δ/2) + σ(βρ_l + δ/2). A margin is shared between the two sides.

    Source: eq. 7, arXiv:2408.06266.
    """
    chosen, rejected = beta * pairs.chosen.log_ratio, beta * pairs.rejected.log_ratio
    return 1 - (chosen - pairs.margin / 2).sigmoid() + (rejected + pairs.margin / 2).sigmoid()
