"""R-DPO: DPO with a price on every token by which the chosen answer is longer."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def rdpo(pairs: Pairs, *, beta: float, length_alpha: float) -> Tensor:
    """DPO with a length penalty.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        length_alpha: α ≥ 0, nats a token. 0 is DPO.

    Returns:
        (batch,), nats, unreduced: −log σ(βΔ + α(|y_w| − |y_l|) − δ): a chosen answer that is longer is half explained
        by its length, and teaches less.

    Source: arXiv:2403.19159.
    """
    longer = pairs.chosen.length - pairs.rejected.length
    return -functional.logsigmoid(beta * pairs.delta + length_alpha * longer - pairs.margin)
