"""APO-down: the chosen answer goes down and the rejected one further, where neither is as good as the model's own."""

from torch import Tensor

from worker.trainer.losses.pairs import Pairs


def apo_down(pairs: Pairs, *, beta: float) -> Tensor:
    """Anchored Preference Optimization, down variant.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.

    Returns:
        (batch,), unreduced: σ(βρ_w) + 1 − σ(βΔ − δ). At the reference its slope in ρ_w is 0, and that in ρ_l β/4.

    Source: eq. 8, arXiv:2408.06266.
    """
    return (beta * pairs.chosen.log_ratio).sigmoid() + (pairs.margin - beta * pairs.delta).sigmoid()  # 1 − σ(x) = σ(−x)
