"""f-DPO: rewards under another divergence from the reference than the reverse KL that DPO's are derived from.

Under a divergence with generator f the implicit reward is β f'(π_θ/π_ref) plus what cancels between two answers to one
prompt. Every function here gives f'(u) of u = e^ρ, up to a constant that cancels, too, so that it is 0 at ρ = 0, where
the policy is the reference. The reverse KL's is ρ itself.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Callable[[Tensor], Tensor]

TANGENT_NATS = 30.0
"""Exponentials go on along their tangent above this: fp32 has no number for them above 88 nats, nor for their squares
above 44, and a gradient of e^30 is clipped in any case."""


def forward_kl(log_ratio: Tensor) -> Tensor:
    """(batch,): 1 − 1/u of log-ratios ρ, (batch,), nats. Below 1, and far below 0 for an answer that is given up.

    Source: arXiv:2309.16240.
    """
    return -_expm1(-log_ratio)


def jensen_shannon(log_ratio: Tensor) -> Tensor:
    """(batch,): log 2u/(1+u) of log-ratios ρ, (batch,), nats. Below log 2; its slope at ρ = 0 is ½, not 1.

    Source: arXiv:2309.16240.
    """
    return math.log(2) + functional.logsigmoid(log_ratio)


def alpha_divergence(log_ratio: Tensor, alpha: float) -> Tensor:
    """(batch,): (u^(α−1) − 1)/(α − 1) of log-ratios ρ, (batch,), nats: the forward KL at α = 0, the reverse at 1.

    Args:
        log_ratio: ρ.
        alpha: α in [0, 1]; 1 − α in the paper's count.

    Source: arXiv:2309.16240.
    """
    if alpha == 1:
        return log_ratio
    return _expm1((alpha - 1) * log_ratio) / (alpha - 1)


def divergence(name: str, alpha: float) -> Divergence | None:
    """The divergence of that name; None for the reverse KL, whose scores are the log-ratios.

    Args:
        name: of ``app.rounds.spec.DIVERGENCES``.
        alpha: of 'alpha'; the others do not read it.

    Raises:
        ValueError: there is none of that name.
    """
    known: dict[str, Divergence | None] = {
        "reverse_kl": None,
        "forward_kl": forward_kl,
        "js": jensen_shannon,
        "alpha": partial(alpha_divergence, alpha=alpha),
    }
    if name not in known:
        raise ValueError(f"no divergence {name!r}; known are {', '.join(known)}")
    return known[name]


def _expm1(x: Tensor) -> Tensor:
    """(batch,): e^x − 1, along its tangent above ``TANGENT_NATS``."""
    beyond = functional.relu(x - TANGENT_NATS)
    return torch.expm1(x.clamp(max=TANGENT_NATS)) + math.exp(TANGENT_NATS) * beyond
