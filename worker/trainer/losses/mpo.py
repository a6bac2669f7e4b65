"""MPO: a preference, the quality of each answer and the writing of the chosen one, learned together."""

from torch import Tensor

from worker.trainer.losses.bco_pair import bco_pair
from worker.trainer.losses.pairs import Pairs
from worker.trainer.losses.sigmoid import sigmoid


def mpo(
    pairs: Pairs, *, beta: float, preference_weight: float, quality_weight: float, generation_weight: float
) -> Tensor:
    """Mixed Preference Optimization.

    Args:
        pairs: a batch of preferences; ``shift`` is s, as BCO reads it.
        beta: β > 0, per nat, of both terms that have one.
        preference_weight: w_p > 0, of DPO's loss.
        quality_weight: w_q ≥ 0, of BCO's loss.
        generation_weight: w_g ≥ 0, of the chosen answer's loss per token.

    Returns:
        (batch,), nats, unreduced: w_p · −log σ(βΔ − δ) + w_q · [−log σ(β(ρ_w − s) − δ/2) − log σ(−β(ρ_l − s) − δ/2)]
        − w_g ℓ_w/|y_w|. With w_q = 0 and w_p = 1 DPO + NLL.

    Source: arXiv:2411.10442.
    """
    preference, quality = sigmoid(pairs, beta=beta), bco_pair(pairs, beta=beta)
    return preference_weight * preference + quality_weight * quality - generation_weight * pairs.chosen.mean_logp
