"""Log-probs of completion tokens from hidden states, a chunk of positions at a time.

Only positions that predict a completion token are projected. Of a head that is trained, up to ``KEPT_ELEMENTS``
exponentials are kept for the backward pass; beyond those, never more than ``CHUNK_ELEMENTS`` logits exist at once. The
softmax and every sum are fp32 (fp64 for fp64 input), whatever the matrix product is done in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from worker.trainer import gemm

CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits held at once, by device: 32 MiB of fp32 is enough for a CPU's products to run at full speed, and 512 MiB
for a GPU's."""
KEPT_ELEMENTS = {"cpu": 1 << 26, "cuda": 1 << 28}
"""Exponentials of a pass that are kept rather than computed again: a quarter of the head's work for 256 MiB of fp32."""
SOFTMAX_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 27}
"""Logits that go through the steps of the softmax together, in fp32: on a CPU they stay in its caches meanwhile."""


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
            hidden,
            module.weight,
            module.bias,
            targets,
            _Options(head.scale, head.softcap, rows, _product_dtype(hidden), torch.is_grad_enabled()),
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


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n, V) in the product's dtype, of operands in it, before scale and cap."""
    logits = gemm.matmul(hidden, weight.t())
    if bias is not None:
        logits += bias
    return logits


@dataclass(frozen=True, slots=True)
class _Slopes:
    """d log p(target) / d (W h + b) of n positions: ``at_target`` on the target, minus ``share`` times ``spread``."""

    spread: Tensor
    """(n, V), in the product's dtype: e^(logit − largest), times the soft cap's slope where there is one."""
    share: Tensor
    """(n,): of one unit of ``spread``."""
    at_target: Tensor
    """(n,)."""


def _from_logits(
    logits: Tensor, targets: Tensor, scale: float, softcap: float | None, *, keep: bool
) -> tuple[Tensor, _Slopes]:
    """Log-probs (n,) of the targets, and their slopes. Consumes ``logits``: where ``keep`` is, they become the spread.

    The softmax is never divided out: what divides it is one number a row, which its products with hidden states and
    weights can take instead.
    """
    n, V = logits.shape
    chosen, shift, total = (logits.new_empty(n, dtype=_sum_dtype(logits.dtype)) for _ in range(3))
    rows = max(1, SOFTMAX_ELEMENTS.get(logits.device.type, 1 << 21) // V)
    for span in _chunks(0, n, rows):
        piece = logits[span].to(chosen.dtype)  # the logits themselves, where they have the sum's dtype
        if scale != 1.0:
            piece *= scale
        if softcap is not None:
            piece.div_(softcap).tanh_().mul_(softcap)
        torch.gather(piece, 1, targets[span, None], out=chosen[span, None])
        torch.amax(piece, 1, out=shift[span])
        slope = None if softcap is None or not keep else 1 - (piece / softcap).square()
        piece.sub_(shift[span, None]).exp_()
        torch.sum(piece, 1, out=total[span])
        if slope is not None:
            piece *= slope
        if keep and piece.dtype != logits.dtype:
            logits[span] = piece
    logps = chosen - shift - total.log()
    at_target = torch.full_like(chosen, scale) if softcap is None else scale * (1 - (chosen / softcap).square())
    return logps, _Slopes(logits, scale / total, at_target)


@dataclass(frozen=True, slots=True)
class _Options:
    scale: float
    softcap: float | None
    rows: int
    """Of a chunk."""
    dtype: torch.dtype
    """Of the products."""
    differentiated: bool
    """Whether a backward pass may come."""

    def to_logps(self, logits: Tensor, targets: Tensor, *, keep: bool) -> tuple[Tensor, _Slopes]:
        """Of what ``_logits`` gave."""
        return _from_logits(logits, targets, self.scale, self.softcap, keep=keep)


class _LinearLogps(torch.autograd.Function):
    """Log-probs through a linear head.

    Where the head is frozen (LoRA), d log p / d hidden is made in the forward pass while the logits are at hand and
    scaled row by row in the backward pass. Where it is trained, what the softmax spreads is kept, up to
    ``KEPT_ELEMENTS``, and recomputed in the backward pass for the positions beyond.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, options: _Options
    ) -> Tensor:
        trains_head = options.differentiated and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2])
        early = options.differentiated and ctx.needs_input_grad[0] and not trains_head
        N, V, dtype = len(targets), weight.shape[0], options.dtype
        kept = min(N, KEPT_ELEMENTS.get(hidden.device.type, 1 << 26) // V) if trains_head else 0
        spread = hidden.new_empty(0, V, dtype=dtype)
        W, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        logps, grads, shares, at_targets = [], [], [hidden.new_empty(0)], [hidden.new_empty(0)]
        with torch.autocast(hidden.device.type, enabled=False):
            for span in (*_chunks(0, kept, kept), *_chunks(kept, N, options.rows)):
                logits = _logits(hidden[span].to(dtype), W, b)
                if span.stop <= kept:
                    spread = logits
                found, slopes = options.to_logps(logits, targets[span], keep=early or span.stop <= kept)
                logps.append(found)
                if early:
                    grads.append(_hidden_grad(slopes, W, targets[span], torch.ones_like(found)).to(hidden.dtype))
                elif span.stop <= kept:
                    shares.append(slopes.share)
                    at_targets.append(slopes.at_target)
        ctx.early, ctx.options, ctx.kept = early, options, kept
        if early:
            ctx.save_for_backward(torch.cat(grads))
        elif trains_head:
            ctx.weight_dtype = weight.dtype
            ctx.save_for_backward(hidden, W, bias, targets, spread, torch.cat(shares), torch.cat(at_targets))
        return torch.cat(logps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (grad_hidden,) = ctx.saved_tensors
            return grad_hidden * grad_output[:, None].to(grad_hidden.dtype), None, None, None, None
        hidden, W, bias, targets, spread, share, at_target = ctx.saved_tensors
        options, kept = ctx.options, ctx.kept
        dtype, sums = options.dtype, _sum_dtype(options.dtype)
        b = None if bias is None else bias.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: Tensor | None = None
        grad_bias = None if bias is None else torch.zeros(bias.shape, dtype=sums, device=bias.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for span in (*_chunks(0, kept, kept), *_chunks(kept, len(targets), options.rows)):
                piece, ids, upstream = hidden[span].to(dtype), targets[span], grad_output[span]
                slopes = _Slopes(spread, share, at_target)
                if span.stop > kept:
                    slopes = options.to_logps(_logits(piece, W, b), ids, keep=True)[1]
                grad_hidden[span] = _hidden_grad(slopes, W, ids, upstream)
                shares, targeted = -(slopes.share * upstream), slopes.at_target * upstream
                product = gemm.outer(slopes.spread, (piece * shares[:, None]).to(dtype)).to(sums)
                grad_weight = product if grad_weight is None else grad_weight.add_(product)
                grad_weight.index_add_(0, ids, (piece * targeted[:, None]).to(sums))
                if grad_bias is not None:
                    grad_bias += slopes.spread.t().to(sums) @ shares
                    grad_bias.index_add_(0, ids, targeted)
        grad_weight = (torch.zeros_like(W) if grad_weight is None else grad_weight).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None if grad_bias is None else grad_bias.to(bias.dtype), None, None


def _chunks(start: int, stop: int, rows: int) -> Iterator[slice]:
    while start < stop:
        yield slice(start, min(start + rows, stop))
        start += rows


def _hidden_grad(slopes: _Slopes, weight: Tensor, targets: Tensor, upstream: Tensor) -> Tensor:
    """(n, D), in the sum's dtype: what ``upstream`` (n,) per log-prob is per hidden state."""
    spread = gemm.matmul(slopes.spread, weight).to(upstream.dtype)
    spread *= -(slopes.share * upstream)[:, None]
    return spread.addcmul_(weight.index_select(0, targets).to(spread.dtype), (slopes.at_target * upstream)[:, None])
