"""Hinge: a pair that is apart far enough has nothing left to teach."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def hinge(pairs: Pairs, *, beta: float) -> Tensor:
    """The hinge loss of SLiC, on log-ratios as RSO has it.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat; 1/β is the difference at which a pair is done.

    Returns:
        (batch,), unreduced: max(0, 1 + δ − βΔ). A margin moves the corner.

    Source: arXiv:2309.06657 (RSO), after SLiC.
    """
    return functional.relu(1 + pairs.margin - beta * pairs.score_delta)
