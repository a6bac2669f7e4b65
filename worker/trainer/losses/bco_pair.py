"""BCO: tell chosen from rejected answers one by one, as a classifier does whose logit is the reward."""

from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def bco_pair(pairs: Pairs, *, beta: float) -> Tensor:
    """Binary Classifier Optimization on preferences.

    Args:
        pairs: a batch of preferences; ``shift`` is s, which chosen answers are to be above and rejected ones below.
        beta: β > 0, per nat.

    Returns:
        (batch,), nats, unreduced: −log σ(β(ρ_w − s) − δ/2) − log σ(−β(ρ_l − s) − δ/2). A margin is shared between the
        two sides. Never below DPO's loss −log σ(βΔ − δ), whatever s.

    Source: arXiv:2404.04656; its δ, the reward shift, is βs here.
    """
    shift = 0.0 if pairs.shift is None else pairs.shift
    chosen, rejected = beta * (pairs.chosen.log_ratio - shift), beta * (pairs.rejected.log_ratio - shift)
    return -functional.logsigmoid(chosen - pairs.margin / 2) - functional.logsigmoid(-rejected - pairs.margin / 2)
