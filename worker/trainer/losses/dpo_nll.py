"""DPO + NLL (RPO): DPO that keeps learning to write the chosen answer."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def dpo_nll(pairs: Pairs, *, beta: float, nll_alpha: float) -> Tensor:
    """DPO with the chosen answer's negative log-likelihood per token.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        nll_alpha: α ≥ 0. 0 is DPO.

    Returns:
        (batch,), nats, unreduced: −log σ(βΔ − δ) − α ℓ_w/|y_w|.

    Source: eq. 1, arXiv:2404.19733.
    """
    return -functional.logsigmoid(beta * pairs.delta - pairs.margin) - nll_alpha * pairs.chosen.mean_logp
