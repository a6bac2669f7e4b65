"""SimPO: mean log-probs themselves are the reward, and no reference is asked."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def simpo(pairs: Pairs, *, beta: float, gamma: float) -> Tensor:
    """Simple Preference Optimization.

    Args:
        pairs: a batch of preferences; the reference is not read.
        beta: β > 0, per nat a token.
        gamma: γ ≥ 0, nats: the margin every pair has to win by; a pair's own δ is added to it.

    Returns:
        (batch,), nats, unreduced: −log σ(β ℓ_w/|y_w| − β ℓ_l/|y_l| − γ − δ).

    Source: eq. 6, arXiv:2405.14734.
    """
    difference = pairs.chosen.mean_logp - pairs.rejected.mean_logp
    return -functional.logsigmoid(beta * difference - gamma - pairs.margin)
