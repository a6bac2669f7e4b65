"""DPO-Positive: DPO that also pays for a chosen answer becoming less likely than under the reference."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def dpop(pairs: Pairs, *, beta: float, dpop_lambda: float) -> Tensor:
    """DPO-Positive (Smaug).

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        dpop_lambda: λ ≥ 0; weight of the penalty max(0, −ρ_w). 0 is DPO.

    Returns:
        (batch,), nats, unreduced: −log σ(β(Δ − λ·max(0, −ρ_w)) − δ). Both β and λ act inside σ: outside, as
        some versions have it, a λ of 50 lets the penalty outgrow the preference without bound.

    Source: eq. 3, arXiv:2402.13228.
    """
    penalty = functional.relu(-pairs.chosen.log_ratio)  # max(0, log π_ref(y_w|x) − log π_θ(y_w|x))
    argument = beta * (pairs.delta - dpop_lambda * penalty)  # eq. 3, arXiv:2402.13228
    return -functional.logsigmoid(argument - pairs.margin)
