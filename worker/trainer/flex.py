"""FlexAttention for transformers' models, compiled once for all shapes.

transformers' own wrapper compiles anew for every shape of a batch, some fifteen seconds each time.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

NAME = "hone_flex"


@cache
def register() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, flex_attention_mask

    AttentionInterface.register(NAME, flex_attention_forward)
    AttentionMaskInterface.register(NAME, flex_attention_mask)
    return NAME


@cache
def _kernel(*, compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    plain: Callable[..., Any] = flex_attention
    return torch.compile(plain, dynamic=True) if compiled else plain


def flex_attention_forward(
    _module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention under a block mask, as transformers calls it.

    Args:
        _module: the attention layer; nothing is read from it.
        query: (B, heads, T, d).
        key: (B, key heads, T, d); fewer heads than queries are shared.
        value: (B, key heads, T, d).
        attention_mask: a block mask.
        scaling: of the scores; None takes 1/√d.
        softcap: scores become softcap·tanh(score/softcap).

    Returns:
        (B, T, heads, d), and None for the weights, which are never made.
    """

    def capped(score: Tensor, *_index: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    output = _kernel(compiled=query.device.type == "cuda")(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2).contiguous(), None
