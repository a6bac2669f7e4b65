"""Attention over packed groups on a CPU, tile by tile: what is hidden is never computed, and no T×T mask exists.

All groups of a pass lie in one row, without padding. A tile is a span of queries with the keys it may look at: a
stretch of a prompt with the prompt up to its end, or completions with their prompt and themselves. Only the tile's
last columns, where queries meet their own span, need a mask.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from worker.trainer import gemm
from worker.trainer.packing import Batch

NAME = "hone_blocks"

TILE = 256
"""Queries taken together, at most: the more, the larger the products, and the more is computed that nobody sees."""
LARGE_PRODUCT = 1 << 22
"""Multiply-adds of one key head from which oneDNN, head by head, beats PyTorch's product of all heads."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries ``start`` to ``stop`` of the row. Their keys: ``before``, and their own completions from ``own`` on."""

    start: int
    stop: int
    before: tuple[int, int]
    """Keys of the prompt."""
    own: int
    """Where the keys after those of the prompt begin; they end with the tile."""
    bias: Tensor
    """(queries, keys masked), added to the scores of the last columns: 0 or −inf. The others are all seen."""


class Layout:
    """The tiles of a pass. Built once, read by every layer."""

    def __init__(
        self, groups: Sequence[tuple[int, Sequence[int]]], window: int | None = None, *, predicting: bool = False
    ) -> None:
        """``groups``: tokens of the prompt, and of each completion, in the order of the row.

        ``window``: of sliding-window attention, in tokens; None is unlimited. ``predicting``: leave out the queries
        of all prompt tokens but the last, from which nothing is predicted.
        """
        self.tiles: list[Tile] = []
        self._window = window
        start = 0
        for prompt, completions in groups:
            for first in (prompt - 1,) if predicting else range(0, prompt, TILE):
                self._add(start, prompt, first, min(first + TILE, prompt), first, [])
            at = prompt
            for run in _runs(completions):
                total = sum(run)
                for first in range(at, at + total, TILE if len(run) == 1 else total):
                    self._add(start, prompt, first, min(first + TILE, at + total), at, run)
                at += total
            start += at
        self.covers = sum(tile.stop - tile.start for tile in self.tiles)
        """Queries in all tiles."""

    def _add(self, start: int, prompt: int, first: int, last: int, own: int, run: Sequence[int]) -> None:
        """A tile of the group that begins at ``start``; the other places are counted from there.

        ``run``: lengths of the completions that lie from ``own`` on; none where the tile is of the prompt itself.
        """
        position, number = torch.arange(last), torch.zeros(last, dtype=torch.long)
        at = own
        for which, length in enumerate(run, start=1):
            position[at : at + length] = torch.arange(prompt, prompt + length)[: max(0, last - at)]
            number[at : at + length] = which
            at += length
        keys = torch.cat([torch.arange(min(prompt, own)), torch.arange(own, last)])
        queries = torch.arange(first, last)
        distance = position[queries][:, None] - position[keys]
        seen = (distance >= 0) & ((number[keys] == 0) | (number[keys] == number[queries][:, None]))
        if self._window is not None:
            seen &= distance < self._window
        unseen = int(seen.any(0).int().argmax())  # leading keys that have left the window of all
        clear = int((~seen[:, unseen:].all(0)).int().argmax())  # leading keys that all see; the diagonal ends that
        bias = torch.zeros(last - first, len(keys) - unseen - clear)
        bias.masked_fill_(~seen[:, unseen + clear :], -math.inf)
        if bool(seen[:, unseen:].all()):
            bias = bias[:, :0]
        end = min(prompt, own)
        skipped = max(0, unseen - end)
        before = (start + min(unseen, end), start + end)
        self.tiles.append(Tile(start + first, start + last, before, start + own + skipped, bias))


def _runs(completions: Sequence[int]) -> Iterator[list[int]]:
    """Neighbouring completions that make one tile; one that is longer than a tile comes alone."""
    run: list[int] = []
    for length in completions:
        if run and sum(run) + length > TILE:
            yield run
            run = []
        run.append(length)
    if run:
        yield run


def carrier(batch: Batch, window: int | None = None) -> Tensor:
    """An attention mask that transformers hands on unread to ``attend``: an empty tensor with a ``Layout``."""
    mask = torch.empty(1, 1, 0, 0)
    predicting = Predicting(batch.predicted_from, Layout(batch.groups, window, predicting=True))
    mask.layout_of_groups, mask.predicting = Layout(batch.groups, window), predicting  # type: ignore[attr-defined]
    return mask


@dataclass(slots=True)
class Predicting:
    """The positions of a pass that predict something: all that its last layer has to answer for."""

    rows: Tensor
    """(N,), places in the row, one for each token that is predicted."""
    layout: Layout
    taken: bool = False
    """Whether the last layer gave out these rows, and only these."""


def gave_predicting(mask: Any) -> bool:
    """Whether the model under ``mask`` gave out the predicting positions alone; ``mask`` may be one per layer type."""
    masks = mask.values() if isinstance(mask, dict) else (mask,)
    return any(getattr(one, "predicting", None) is not None and one.predicting.taken for one in masks)


@cache
def register() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: in tiles under a ``carrier``, else PyTorch's own.

    Args:
        module: the attention layer.
        query: (B, heads, T, d); B is 1 in tiles.
        key: (B, key heads, T, d); fewer heads than queries are shared.
        value: (B, key heads, T, d).
        attention_mask: a ``carrier``, or any mask that SDPA takes.
        scaling: of the scores; None takes 1/√d.
        others: what else the architecture gives.

    Returns:
        (B, T, heads, d), and None for the weights, which are not kept.

    Raises:
        ValueError: the architecture asks for something that tiles have not (a soft cap, sinks, dropout).
    """
    layout: Layout | None = getattr(attention_mask, "layout_of_groups", None)
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return found
    for name in ("softcap", "s_aux", "position_bias", "dropout"):
        if others.get(name):
            raise ValueError(f"attention in tiles has no {name}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else query.dtype
    q, k, v = (t.squeeze(0).to(dtype) for t in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        apply: Callable[..., Tensor] = _Tiles.apply
        out = apply(q, k, v, layout, scale)
    return out.unsqueeze(0), None


def forward(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """q (H, T, d), k and v (K, T, d) with K dividing H → (T, H, d), without gradients; 0 where no tile asks."""
    whole = layout.covers == q.shape[1]
    out = (q.new_empty if whole else q.new_zeros)(q.shape[1], q.shape[0], v.shape[2])
    for tile in layout.tiles:
        for heads, shared in _heads(q, k, tile):
            weights = _weights(_queries(q, shared, heads, tile, scale), _keys(k[heads], tile), tile)
            made = _bmm(weights.to(q.dtype), _keys(v[heads], tile))
            span = out[tile.start : tile.stop].transpose(0, 1)
            span[shared].copy_(made.view_as(span[shared]))
    return out


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v for ``grad`` (T, H, d) of what ``forward`` gave; in memory token by token."""
    grad_q, grad_k, grad_v = (t.new_zeros(t.shape[1], t.shape[0], t.shape[2]).transpose(0, 1) for t in (q, k, v))
    grad = grad.transpose(0, 1)
    for tile in layout.tiles:
        for heads, shared in _heads(q, k, tile):
            queries, keys = _queries(q, shared, heads, tile, scale), _keys(k[heads], tile)
            weights = _weights(queries, keys, tile)
            upstream = _queries(grad, shared, heads, tile)
            _add(grad_v[heads], tile, _bmm(weights.to(q.dtype).transpose(1, 2), upstream))
            slopes = _bmm(upstream, _keys(v[heads], tile).transpose(1, 2)).to(weights.dtype)
            scores = torch._softmax_backward_data(slopes, weights, -1, weights.dtype).to(q.dtype)  # noqa: SLF001
            _add(grad_k[heads], tile, _bmm(scores.transpose(1, 2), queries))
            made = _bmm(scores, keys).mul_(scale)
            span = grad_q[shared, tile.start : tile.stop]
            span.copy_(made.view_as(span))
    return grad_q, grad_k, grad_v


class _Tiles(torch.autograd.Function):
    """Scores are made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.layout, ctx.scale = layout, scale
        return forward(q, k, v, layout, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        return *backward(grad, q, k, v, ctx.layout, ctx.scale), None, None


def _heads(q: Tensor, k: Tensor, tile: Tile) -> Iterator[tuple[slice, slice]]:
    """Key heads taken together, and the query heads that share them: all, or, in a large tile, one by one."""
    K = k.shape[0]
    each = q.shape[0] // K
    keys = tile.before[1] - tile.before[0] + tile.stop - tile.own
    large = each * (tile.stop - tile.start) * keys * q.shape[2] >= LARGE_PRODUCT
    if large and q.dtype == torch.float32 and gemm.available():
        for head in range(K):
            yield slice(head, head + 1), slice(head * each, (head + 1) * each)
    else:
        yield slice(0, K), slice(0, q.shape[0])


def _queries(q: Tensor, shared: slice, heads: slice, tile: Tile, scale: float | None = None) -> Tensor:
    """(K, H/K · n, d): the tile's queries, those that share a key head in one matrix."""
    span = q[shared, tile.start : tile.stop]
    span = span * scale if scale is not None else span
    return span.reshape(heads.stop - heads.start, -1, q.shape[2])


def _keys(k: Tensor, tile: Tile) -> Tensor:
    """(K, keys, d)."""
    first, last = tile.before
    if last == tile.own or first == last:
        return k[:, first if first < last else tile.own : tile.stop]
    return torch.cat([k[:, first:last], k[:, tile.own : tile.stop]], 1)


def _add(grad: Tensor, tile: Tile, made: Tensor) -> None:
    first, last = tile.before
    grad[:, first:last] += made[:, : last - first]
    grad[:, tile.own : tile.stop] += made[:, last - first :]


def _weights(queries: Tensor, keys: Tensor, tile: Tile) -> Tensor:
    """(K, H/K · n, keys), fp32 (fp64 for fp64): the softmax of the scores."""
    scores = _bmm(queries, keys.transpose(1, 2))
    if scores.dtype == torch.bfloat16:
        scores = scores.float()
    n, masked = tile.bias.shape
    if masked:
        scores.view(scores.shape[0], -1, n, scores.shape[2])[..., -masked:] += tile.bias
    return torch.softmax(scores, -1)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    """(B, M, N)."""
    return gemm.matmul(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)
