"""FlexAttention for transformers' models, compiled once for all shapes.

transformers' own wrapper compiles anew for every shape of a batch, some fifteen seconds each time.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

NAME = "hone_flex"
SMALL_HEAD = 64
SMALL_HEADS = {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64}
"""Of a kernel for heads of at most ``SMALL_HEAD``: with PyTorch's own choice, attention over packed groups took four
times as long on an H200 (forward, 7,168 tokens by 32 heads: 0.66 ms, and 0.17). For larger heads its own is best."""


@cache
def register() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, flex_attention_mask

    AttentionInterface.register(NAME, flex_attention_forward)
    AttentionMaskInterface.register(NAME, flex_attention_mask)
    return NAME


def usable(device: torch.device) -> bool:
    """Whether FlexAttention can be compiled for ``device``: Triton needs a C compiler for what starts its kernels."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return any(shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang"))


@cache
def _compiled() -> Callable[..., Tensor]:
    made: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=True)
    return made


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

    kernel: Callable[..., Any] = flex_attention
    if query.device.type == "cuda" and not torch.compiler.is_compiling():
        kernel = _compiled()
    output = kernel(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=SMALL_HEADS if query.device.type == "cuda" and query.shape[-1] <= SMALL_HEAD else None,
    )
    return output.transpose(1, 2).contiguous(), None
