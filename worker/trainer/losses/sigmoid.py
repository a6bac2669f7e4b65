"""DPO: the logistic loss on the difference of log-ratios."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def sigmoid(pairs: Pairs, *, beta: float) -> Tensor:
    """Direct Preference Optimization.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat; how strongly the policy is held to the reference.

    Returns:
        (batch,), nats, unreduced: −log σ(βΔ). log 2 where the policy equals the reference.

    Source: eq. 7, arXiv:2305.18290.
    """
    return -functional.logsigmoid(beta * pairs.delta)  # eq. 7, arXiv:2305.18290
