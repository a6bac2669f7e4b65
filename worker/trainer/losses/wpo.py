"""WPO: weigh a preference by how likely the policy would write its two answers now."""

import torch
from torch import Tensor

from worker.trainer.losses.pairs import Pairs, Side


def wpo_weight(pairs: Pairs) -> Tensor:
    """The weight of every preference, to be multiplied with its loss.

    Args:
        pairs: a batch of preferences whose sides have ``policy_token_collision``.

    Returns:
        (batch,), in (0, 1], no gradient: min(1, w_w·w_l), w = exp(mean_t [log p(y_t) − log Σ_v p(v)²]): a completion
        sampled from the policy has w near 1 whatever the policy's entropy.

    Raises:
        ValueError: the batch was made without collisions.

    Source: eq. 2, arXiv:2406.11827.
    """
    return (_log_weight(pairs.chosen) + _log_weight(pairs.rejected)).clamp(max=0).exp()


def _log_weight(side: Side) -> Tensor:
    """(batch,), nats."""
    if side.policy_token_collision is None:
        raise ValueError("no policy_token_collision; run the forward pass with collisions=True")
    with torch.no_grad():
        # Both are 0 behind a completion's end.
        return (side.policy_token_logp.detach() - side.policy_token_collision).sum(1) / side.length
