"""NCA: each answer's own likelihood, so that a chosen answer cannot win by falling less than the rejected one."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def nca_pair(pairs: Pairs, *, beta: float) -> Tensor:
    """Noise Contrastive Alignment on preferences.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.

    Returns:
        (batch,), nats, unreduced: −log σ(a) − ½ log σ(−a) − ½ log σ(−b), a = βρ_w − δ/2, b = βρ_l + δ/2. A margin is
        shared between the two sides. The chosen answer is at rest at σ(a) = ⅔; the rejected one always falls.

    Source: the pairwise loss of table 1, arXiv:2402.05369.
    """
    chosen = beta * pairs.chosen.log_ratio - pairs.margin / 2
    rejected = beta * pairs.rejected.log_ratio + pairs.margin / 2
    noise = functional.logsigmoid(-chosen) + functional.logsigmoid(-rejected)  # both answers stand for the reference's
    return -functional.logsigmoid(chosen) - noise / 2
