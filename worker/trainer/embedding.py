"""The lookup of token embeddings on a CPU: its gradient is added, row by row, to the gradient that is there already.

A head that shares the matrix has left one by then. PyTorch's way fills a second matrix of the vocabulary's size for the
few rows that a pass has looked up, and adds the two.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def use_in(model: Any) -> None:
    """Let a plain embedding of ``model`` that is whole in this process be looked up this way."""
    module = model.get_input_embeddings()
    plain = type(module) is nn.Embedding and type(module.weight) is nn.Parameter
    if plain and module.max_norm is None and not module.scale_grad_by_freq and not module.sparse:
        module.__class__ = Embedding  # the parameter and its name stay as they are


class Embedding(nn.Embedding):
    """``nn.Embedding`` that accumulates its weight's gradient itself. No hook of the weight hears of it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Embedding's own parameter
        """(…, D) of ids (…)."""
        if not torch.is_grad_enabled() or not self.weight.requires_grad:
            return super().forward(input)
        apply: Callable[..., Tensor] = _Lookup.apply
        return apply(torch.empty(0, requires_grad=True), input, self)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, ids: Tensor, module: Embedding) -> Tensor:
        """``_anchor`` makes autograd call ``backward``: of the weight it is to know nothing."""
        ctx.save_for_backward(ids)
        ctx.module = module
        return functional.embedding(ids, module.weight.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        weight, padding = ctx.module.weight, ctx.module.padding_idx
        rows = grad.reshape(-1, grad.shape[-1]).to(weight.dtype)
        if padding is not None:
            rows = rows.masked_fill(ids.reshape(-1, 1) == padding, 0.0)
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids.reshape(-1), rows)
        return None, None, None
