"""Log-probs of completion tokens from hidden states, a chunk of positions at a time.

Only positions that predict a completion token are projected, and never more than ``CHUNK_ELEMENTS`` logits exist at
once. The softmax and every sum are fp32 (fp64 for fp64 input), whatever the matrix product is done in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worker.trainer import gemm

CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits held at once, by device: 32 MiB of fp32 is enough for a CPU's products to run at full speed, and 512 MiB
for a GPU's."""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands between the last hidden state and the logits: cap·tanh(scale·(W h + b)/cap)."""

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> "Head":
        """The head of a transformers causal language model."""
        config = model.config
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1)
        return cls(model.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None))


def token_logps(hidden: Tensor, targets: Tensor, head: Head, chunk_elements: int | None = None) -> Tensor:
    """(N,), nats: log-prob of each target given its hidden state.

    Args:
        hidden: (N, D), the hidden states that predict the targets.
        targets: (N,), token ids.
        head: the output projection; a plain linear one takes the fast path, any other module is recomputed.
        chunk_elements: logits held at once; None takes the device's.
    """
    module = head.module
    vocabulary = _vocabulary(module)
    rows = max(1, (chunk_elements or CHUNK_ELEMENTS.get(hidden.device.type, 1 << 21)) // vocabulary)
    if type(module) in (nn.Linear, gemm.Linear):
        apply: Callable[..., Tensor] = _LinearLogps.apply
        return apply(
            hidden, module.weight, module.bias, targets, head.scale, head.softcap, rows, _product_dtype(hidden)
        )
    parts = [
        checkpoint(_module_logps, piece, ids, head, use_reentrant=False)
        for piece, ids in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def token_collisions(hidden: Tensor, head: Head, chunk_elements: int | None = None) -> Tensor:
    """(N,), nats, no gradient: log Σ_v p(v)² of the distribution each of the (N, D) hidden states predicts.

    That is logsumexp(2z) − 2·logsumexp(z) of the logits z, a chunk of positions at a time.
    """
    rows = max(1, (chunk_elements or CHUNK_ELEMENTS.get(hidden.device.type, 1 << 21)) // _vocabulary(head.module))
    parts = []
    for piece in torch.split(hidden.detach(), rows):
        logits = _module_logits(piece, head)
        parts.append((2 * logits).logsumexp(1) - 2 * logits.logsumexp(1))
    return torch.cat(parts)


def _vocabulary(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    return int(weight.shape[0]) if isinstance(weight, Tensor) else 1 << 17


def _product_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _module_logits(hidden: Tensor, head: Head) -> Tensor:
    logits: Tensor = head.module(hidden)
    logits = logits.to(_sum_dtype(logits.dtype)) * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _module_logps(hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
    logits = _module_logits(hidden, head)
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """(n, V) in the sum's dtype, of operands already in the product's."""
    logits = gemm.matmul(hidden, weight.t())
    if bias is not None:
        logits += bias
    logits = logits.to(_sum_dtype(logits.dtype))
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _logit_grad(logits: Tensor, targets: Tensor, scale: float, softcap: float | None) -> Tensor:
    """(n, V): d log p(target) / d (W h + b) = (onehot − softmax), through softcap and scale. Consumes ``logits``."""
    slope = None if softcap is None else 1 - (logits / softcap).square()
    grad = logits.softmax(1).neg_()
    grad[torch.arange(len(targets), device=targets.device), targets] += 1
    if slope is not None:
        grad *= slope
    return grad if scale == 1.0 else grad.mul_(scale)


class _LinearLogps(torch.autograd.Function):
    """Log-probs through a linear head without keeping logits.

    Where the head is frozen (LoRA), d log p / d hidden is made in the forward pass while the logits are at hand and
    scaled row by row in the backward pass. Where it is trained, the logits are recomputed in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        trains_head = weight.requires_grad or (bias is not None and bias.requires_grad)
        early = hidden.requires_grad and not trains_head
        W, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        logps, grads = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            for piece, ids in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
                logits = _logits(piece.to(dtype), W, b, scale, softcap)
                logps.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
                if early:
                    grads.append(gemm.matmul(_logit_grad(logits, ids, scale, softcap).to(dtype), W).to(hidden.dtype))
        ctx.early, ctx.options = early, (scale, softcap, rows, dtype)
        if early:
            ctx.save_for_backward(torch.cat(grads))
        else:
            ctx.save_for_backward(hidden, weight, bias, targets)
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (grad_hidden,) = ctx.saved_tensors
            return (grad_hidden * grad_output[:, None].to(grad_hidden.dtype), *(None,) * 7)
        hidden, weight, bias, targets = ctx.saved_tensors
        scale, softcap, rows, dtype = ctx.options
        W, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros(weight.shape, dtype=_sum_dtype(dtype), device=weight.device)
        grad_bias = None if bias is None else torch.zeros(bias.shape, dtype=_sum_dtype(dtype), device=bias.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(targets), rows):
                span = slice(start, start + rows)
                piece, ids = hidden[span].to(dtype), targets[span]
                grad = _logit_grad(_logits(piece, W, b, scale, softcap), ids, scale, softcap)
                grad *= grad_output[span, None]
                if grad_bias is not None:
                    grad_bias += grad.sum(0)
                grad = grad.to(dtype)
                grad_hidden[span] = gemm.matmul(grad, W).to(hidden.dtype)
                grad_weight += gemm.matmul(grad.t(), piece)
        grad_weight = grad_weight.to(weight.dtype)
        return grad_hidden, grad_weight, None if grad_bias is None else grad_bias.to(bias.dtype), *(None,) * 5
