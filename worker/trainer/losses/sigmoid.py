"""DPO: the logistic loss on the difference of log-ratios; with margins, ODPO."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def sigmoid(pairs: Pairs, *, beta: float) -> Tensor:
    """Direct Preference Optimization, and with margins Direct Preference Optimization with an Offset.

    Args:
        pairs: a batch of preferences; ``margin`` is the offset δ.
        beta: β > 0, per nat; how strongly the policy is held to the reference.

    Returns:
        (batch,), nats, unreduced: −log σ(βΔ − δ). log 2 where the policy equals the reference and δ = 0.

    Source: eq. 7, arXiv:2305.18290; the offset: arXiv:2402.10571.
    """
    return -functional.logsigmoid(beta * pairs.score_delta - pairs.margin)  # eq. 7, arXiv:2305.18290
