"""Log-probs of completion tokens from hidden states, a chunk of the logits at a time.

Only positions that predict a completion token are projected. Of a head that is trained, up to ``KEPT_ELEMENTS``
exponentials are kept for the backward pass; beyond those, never more than ``CHUNK_ELEMENTS`` logits exist at once. The
softmax and every sum are fp32 (fp64 for fp64 input), whatever the matrix product is done in.

A chunk is some positions by some columns of the vocabulary. Each has a softmax of its own, whose largest logit and
sum are joined with the others' afterwards; so nothing that has left the caches is read again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from worker.trainer import gemm

CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits held at once, by device: 16 MiB of fp32 is enough for a CPU's products to run at full speed, and 512 MiB
for a GPU's."""
COLUMNS = {"cpu": 1 << 12}
"""Tokens of the vocabulary in a chunk, at least, by device; where none are given, the whole vocabulary.

On a CPU products run a fifth faster so: 1,000 positions by 32,000 tokens took 42 ms in bfloat16 and 85 in fp32, in
chunks 35 and 71. And the head is read once for many positions.
"""
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
    elements = chunk_elements or CHUNK_ELEMENTS.get(hidden.device.type, 1 << 21)
    if type(module) in (nn.Linear, gemm.Linear):
        options = _Options(head.scale, head.softcap, elements, _product_dtype(hidden), torch.is_grad_enabled())
        apply: Callable[..., Tensor] = _LinearLogps.apply
        return apply(hidden, module.weight, module.bias, targets, options)
    rows = max(1, elements // _vocabulary(module))
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


@dataclass(frozen=True, slots=True)
class _Options:
    scale: float
    softcap: float | None
    elements: int
    """Of a chunk."""
    dtype: torch.dtype
    """Of the products."""
    differentiated: bool
    """Whether a backward pass may come."""

    def spans(self, N: int, V: int, device: torch.device) -> list[slice]:
        """Positions that are taken together, when all N are not."""
        return _evenly(N, max(1, self.elements // min(V, COLUMNS.get(device.type, V))))

    def columns(self, n: int, V: int, device: torch.device) -> list[slice]:
        """Tokens of the vocabulary that are taken together, of n positions."""
        return _evenly(V, max(COLUMNS.get(device.type, V), self.elements // max(1, n)))


def _evenly(total: int, most: int) -> list[slice]:
    """As few spans of at most ``most`` as there can be, of nearly the same size."""
    count = -(-total // most)
    edges = [total * i // max(1, count) for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class _Slopes:
    """d log p(target) / d (W h + b) of n positions: ``at_target`` on the target, minus the softmax.

    The softmax is never divided out: what divides it is one number a row and chunk, which the products of ``spreads``
    with hidden states and weights can take instead.
    """

    spreads: tuple[Tensor, ...]
    """(n, columns) each, in the product's dtype: e^(logit − the chunk's largest), times the soft cap's slope where
    there is one."""
    shares: Tensor
    """(chunks, n): of one unit of ``spreads``."""
    at_target: Tensor
    """(n,)."""

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, as ``of`` takes them back."""
        return self.shares, self.at_target, *self.spreads

    @classmethod
    def of(cls, shares: Tensor, at_target: Tensor, *spreads: Tensor) -> "_Slopes":
        """What ``tensors`` gave."""
        return cls(spreads, shares, at_target)


@dataclass(frozen=True, slots=True)
class _Projection:
    """A linear head in the product's dtype."""

    weight: Tensor
    """(V, D)."""
    bias: Tensor | None
    options: _Options

    def logps(self, hidden: Tensor, targets: Tensor, *, keep: bool) -> tuple[Tensor, _Slopes]:
        """Log-probs (n,) of the targets, and their slopes; without their spreads, where these are not to be kept."""
        n, V, options = len(targets), len(self.weight), self.options
        sums = _sum_dtype(options.dtype)
        chosen, spreads, largest, totals = hidden.new_zeros(n, dtype=sums), [], [], []
        for columns in options.columns(n, V, hidden.device):
            logits = gemm.matmul(hidden, self.weight[columns].t())
            if self.bias is not None:
                logits += self.bias[columns]
            shift, total = _spread(logits, targets - columns.start, chosen, options, keep=keep)
            largest.append(shift)
            totals.append(total)
            if keep:
                spreads.append(logits)
        shifts = torch.stack(largest)
        shift = shifts.amax(0)
        factors = (shifts - shift).exp_()
        total = (factors * torch.stack(totals)).sum(0)
        scale, softcap = options.scale, options.softcap
        at_target = torch.full_like(chosen, scale) if softcap is None else scale * (1 - (chosen / softcap).square())
        return chosen - shift - total.log(), _Slopes(tuple(spreads), factors.mul_(scale / total), at_target)

    def hidden_grad(self, slopes: _Slopes, targets: Tensor, upstream: Tensor) -> Tensor:
        """(n, D), in the sum's dtype: what ``upstream`` (n,) per log-prob is per hidden state."""
        n, V = len(targets), len(self.weight)
        made = self.weight.index_select(0, targets).to(upstream.dtype).mul_((slopes.at_target * upstream)[:, None])
        columns = self.options.columns(n, V, upstream.device)
        for span, spread, share in zip(columns, slopes.spreads, slopes.shares, strict=True):
            made.addcmul_(gemm.matmul(spread, self.weight[span]).to(made.dtype), (share * upstream)[:, None], value=-1)
        return made

    def add_weight_grad(
        self, grad: Tensor, slopes: _Slopes, hidden: Tensor, targets: Tensor, upstream: Tensor, *, first: bool
    ) -> None:
        """Add to ``grad`` (V, D), or put there if it is the ``first``, what ``upstream`` (n,) is per weight."""
        columns = self.options.columns(len(targets), len(grad), grad.device)
        for span, spread, share in zip(columns, slopes.spreads, slopes.shares, strict=True):
            scaled = (hidden * -(share * upstream)[:, None]).to(spread.dtype)
            if first:
                gemm.outer(spread, scaled, out=grad[span])
            else:
                grad[span] += gemm.outer(spread, scaled)
        grad.index_add_(0, targets, (hidden * (slopes.at_target * upstream)[:, None]).to(grad.dtype))

    def add_bias_grad(self, grad: Tensor, slopes: _Slopes, targets: Tensor, upstream: Tensor) -> None:
        """Add to ``grad`` (V,) what ``upstream`` (n,) is per bias."""
        columns = self.options.columns(len(targets), len(grad), grad.device)
        for span, spread, share in zip(columns, slopes.spreads, slopes.shares, strict=True):
            grad[span] -= spread.t().to(grad.dtype) @ (share * upstream)
        grad.index_add_(0, targets, slopes.at_target * upstream)


def _spread(logits: Tensor, places: Tensor, chosen: Tensor, options: _Options, *, keep: bool) -> tuple[Tensor, Tensor]:
    """The largest logit (n,) of every row of a chunk, and the sum (n,) of the exponentials of what they are above it.

    Consumes ``logits`` (n, columns): where ``keep`` is, they become the spread. ``places`` (n,) are columns; where
    one of the chunk is named, its logit is put into ``chosen`` (n,).
    """
    n, width = logits.shape
    shift, total = (logits.new_empty(n, dtype=chosen.dtype) for _ in range(2))
    here = (places >= 0) & (places < width)
    places = places.clamp(0, width - 1)
    scale, softcap, least = options.scale, options.softcap, torch.finfo(chosen.dtype).min
    for span in _evenly(n, max(1, SOFTMAX_ELEMENTS.get(logits.device.type, 1 << 21) // width)):
        piece = logits[span].to(chosen.dtype)  # the logits themselves, where they have the sum's dtype
        if scale != 1.0:
            piece *= scale
        if softcap is not None:
            piece.div_(softcap).tanh_().mul_(softcap)
        found = torch.gather(piece, 1, places[span, None])[:, 0]
        torch.where(here[span], found, chosen[span], out=chosen[span])
        torch.amax(piece, 1, out=shift[span])
        shift[span].clamp_(min=least)  # a chunk of nothing but −inf has no part in the sum
        slope = None if softcap is None or not keep else 1 - (piece / softcap).square()
        piece.sub_(shift[span, None]).exp_()
        torch.sum(piece, 1, out=total[span])
        if slope is not None:
            piece *= slope
        if keep and piece.dtype != logits.dtype:
            logits[span] = piece
    return shift, total


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
        (N, D), V, dtype = hidden.shape, weight.shape[0], options.dtype
        kept = min(N, KEPT_ELEMENTS.get(hidden.device.type, 1 << 26) // V) if trains_head else 0
        head = _Projection(weight.to(dtype), None if bias is None else bias.to(dtype), options)
        logps, grads, slopes = [], [hidden.new_empty(0, D)], None
        with torch.autocast(hidden.device.type, enabled=False):
            if kept:
                found, slopes = head.logps(hidden[:kept].to(dtype), targets[:kept], keep=True)
                logps.append(found)
            for span in _after(kept, N, options, V, hidden.device):
                found, here = head.logps(hidden[span].to(dtype), targets[span], keep=early)
                logps.append(found)
                if early:
                    grads.append(head.hidden_grad(here, targets[span], torch.ones_like(found)).to(hidden.dtype))
        ctx.early, ctx.options, ctx.kept = early, options, kept
        if early:
            ctx.save_for_backward(torch.cat(grads))
        elif trains_head:
            ctx.weight_dtype = weight.dtype
            ctx.save_for_backward(hidden, head.weight, bias, targets, *(slopes.tensors() if slopes else ()))
        return torch.cat(logps) if logps else hidden.new_empty(0, dtype=_sum_dtype(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (grad_hidden,) = ctx.saved_tensors
            return grad_hidden * grad_output[:, None].to(grad_hidden.dtype), None, None, None, None
        hidden, W, bias, targets, *saved = ctx.saved_tensors
        options, kept = ctx.options, ctx.kept
        dtype, sums = options.dtype, _sum_dtype(options.dtype)
        head = _Projection(W, None if bias is None else bias.to(dtype), options)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.empty(W.shape, dtype=sums, device=W.device)
        grad_bias = None if bias is None else torch.zeros(bias.shape, dtype=sums, device=bias.device)
        spans = [slice(0, kept)] * bool(kept) + _after(kept, len(targets), options, len(W), hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for number, span in enumerate(spans):
                piece, ids, upstream = hidden[span].to(dtype), targets[span], grad_output[span]
                slopes = _Slopes.of(*saved) if span.stop <= kept else head.logps(piece, ids, keep=True)[1]
                grad_hidden[span] = head.hidden_grad(slopes, ids, upstream)
                head.add_weight_grad(grad_weight, slopes, piece, ids, upstream, first=number == 0)
                if grad_bias is not None:
                    head.add_bias_grad(grad_bias, slopes, ids, upstream)
        if not spans:
            grad_weight.zero_()
        given_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight.to(ctx.weight_dtype), given_bias, None, None


def _after(kept: int, N: int, options: _Options, V: int, device: torch.device) -> list[slice]:
    """Spans of the positions whose exponentials are not kept."""
    return [slice(kept + span.start, kept + span.stop) for span in options.spans(N - kept, V, device)]
