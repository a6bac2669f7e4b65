"""ORPO: likelihood of the chosen answer and its odds against the rejected one, without a reference."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs


def orpo(pairs: Pairs, *, orpo_lambda: float) -> Tensor:
    """Odds Ratio Preference Optimization.

    Args:
        pairs: a batch of preferences; the reference is not read.
        orpo_lambda: λ ≥ 0: weight of the odds ratio. 0 is plain learning of the chosen answers.

    Returns:
        (batch,), nats, unreduced: −ℓ_w/|y_w| − λ log σ(log odds_w − log odds_l − δ), odds = P/(1−P), P = exp(ℓ/|y|).

    Source: eq. 6 and 7, arXiv:2403.07691.
    """
    chosen, rejected = pairs.chosen.mean_logp, pairs.rejected.mean_logp
    log_odds_ratio = _log_odds(chosen) - _log_odds(rejected)
    return -chosen - orpo_lambda * functional.logsigmoid(log_odds_ratio - pairs.margin)


def _log_odds(mean_logp: Tensor) -> Tensor:
    """(batch,): log P − log(1 − P) of P = exp(``mean_logp``); held below P = 1, where the odds are infinite."""
    logp = mean_logp.clamp(max=-torch.finfo(mean_logp.dtype).eps)
    far = logp < -math.log(2)
    # log(1 − e^x): log1p(−e^x) loses no digits far from 0, log(−expm1(x)) none near it. Each branch sees only
    # values it can bear, for a gradient of 0 · ∞ would be none.
    near_zero = torch.log(-torch.expm1(torch.where(far, -1.0, logp)))
    far_away = torch.log1p(-torch.exp(torch.where(far, logp, -1.0)))
    return logp - torch.where(far, far_away, near_zero)
