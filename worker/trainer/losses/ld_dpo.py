"""LD-DPO: the tokens by which one answer is longer than the other count less."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.trainer.losses.pairs import Pairs, Side


def ld_dpo(pairs: Pairs, *, beta: float, ld_alpha: float) -> Tensor:
    """Length-desensitised DPO.

    Args:
        pairs: a batch of preferences.
        beta: β > 0, per nat.
        ld_alpha: α in [0, 1]: weight of the tokens beyond the shorter answer's length. 1 is DPO.

    Returns:
        (batch,), nats, unreduced: DPO's loss with Σ_{i≤m} + α Σ_{i>m} in place of every sum over tokens, under policy
        and reference alike; m = min(|y_w|, |y_l|).

    Source: arXiv:2409.06411.
    """
    shared = torch.minimum(pairs.chosen.length, pairs.rejected.length)
    delta = _log_ratio(pairs.chosen, shared, ld_alpha) - _log_ratio(pairs.rejected, shared, ld_alpha)
    return -functional.logsigmoid(beta * delta - pairs.margin)


def _log_ratio(side: Side, shared: Tensor, ld_alpha: float) -> Tensor:
    """(batch,), nats: ρ with the tokens after ``shared``, (batch,), weighted by α."""
    tokens = side.policy_token_logp - side.reference_token_logp
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where(place < shared[:, None], tokens, ld_alpha * tokens).sum(1)
