"""Attention over packed groups on a CPU, tile by tile: what is hidden is never computed, and no T×T mask exists.

All groups of a pass lie in one row, without padding. A tile is a span of queries with the keys it may look at: a
stretch of a prompt with the prompt up to its end, or completions with their prompt and themselves. Only the tile's
last columns, where queries meet their own span, need a mask.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
KEPT_ELEMENTS = 1 << 26
"""Attention weights of a pass that are kept for its backward pass rather than computed again: 256 MiB of fp32."""
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

    @property
    def keys(self) -> int:
        """How many the queries look at, or past."""
        first, last = self.before
        return last - first + self.stop - self.own


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
        self._orders: dict[tuple[int, int, int], TileOrder] = {}
        self._kept = 0

    def keeps(self, H: int) -> bool:
        """Whether the attention weights of one more layer of H heads are to be kept. Asked once a layer."""
        wanted = H * sum((tile.stop - tile.start) * tile.keys for tile in self.tiles)
        if self._kept + wanted > KEPT_ELEMENTS:
            return False
        self._kept += wanted
        return True

    def order(self, T: int, H: int, K: int) -> "TileOrder":
        """How the queries of H heads over K key heads lie tile by tile, of a row of T tokens."""
        if (T, H, K) not in self._orders:
            self._orders[T, H, K] = TileOrder(self.tiles, T, H, K)
        return self._orders[T, H, K]

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


class TileOrder:
    """Queries tile by tile, within a tile by key head, so that those of one product lie side by side in memory."""

    def __init__(self, tiles: Sequence[Tile], T: int, H: int, K: int) -> None:
        heads = torch.arange(H).view(K, H // K, 1)
        self._rows = torch.cat([(torch.arange(t.start, t.stop) * H + heads).flatten() for t in tiles])
        self.sizes = [(tile.stop - tile.start) * H for tile in tiles]
        """Rows of every tile."""
        self._shape = (T, H)
        self._back = torch.argsort(self._rows) if len(self._rows) == T * H else None

    def take(self, x: Tensor) -> Tensor:
        """(rows of all tiles, d) of x (T, H, d)."""
        return x.reshape(-1, x.shape[2]).index_select(0, self._rows)

    def put(self, rows: Tensor) -> Tensor:
        """(T, H, d): ``rows`` back where they came from; 0 where no tile asks."""
        d = rows.shape[1]
        if self._back is not None:
            return rows.index_select(0, self._back).view(*self._shape, d)
        T, H = self._shape
        return rows.new_zeros(T * H, d).index_copy_(0, self._rows, rows).view(T, H, d)


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
    keep = torch.is_grad_enabled() and layout.keeps(q.shape[0])
    with torch.autocast("cpu", enabled=False):
        apply: Callable[..., Tensor] = _Tiles.apply
        out = apply(q, k, v, layout, scale, keep)
    return out.unsqueeze(0), None


@dataclass(frozen=True, slots=True)
class Saved:
    """What ``backward`` reads of a ``forward``."""

    queries: Tensor
    """(H · queries of all tiles, d), scaled, as ``TileOrder`` has them."""
    keys: Tensor
    """(K, T, d), dense."""
    values: Tensor
    """(K, T, d), dense."""
    weights: tuple[Tensor, ...] = ()
    """Of every part, in order; none where they are computed again."""

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, as ``of`` takes them back."""
        return self.queries, self.keys, self.values, *self.weights

    @classmethod
    def of(cls, queries: Tensor, keys: Tensor, values: Tensor, *weights: Tensor) -> "Saved":
        """What ``tensors`` gave."""
        return cls(queries, keys, values, weights)


def forward(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, *, keep: bool) -> tuple[Tensor, Saved]:
    """q (T, H, d), k and v (T, K, d) with K dividing H → (T, H, d), without gradients; 0 where no tile asks.

    ``keep``: save the attention weights, too.
    """
    order = layout.order(q.shape[0], q.shape[1], k.shape[1])
    queries = order.take(q).mul_(scale)
    saved = Saved(queries, k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous())
    made, kept = [], []
    for tile, _, keys, values, (part,) in _parts(layout, order, saved, queries):
        weights = _weights(part, keys, tile.bias).to(q.dtype)
        made.append(_across(weights, values.mT).view(-1, q.shape[2]))
        if keep:
            kept.append(weights)
    return order.put(torch.cat(made)), replace(saved, weights=tuple(kept))


def backward(grad: Tensor, saved: Saved, layout: Layout, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q (T, H, d), and of k and v as (K, d, T), for ``grad`` (T, H, d) of what ``forward`` gave."""
    T, H, d = grad.shape
    order = layout.order(T, H, len(saved.keys))
    grad_k, grad_v = (t.new_zeros(len(t), d, T) for t in (saved.keys, saved.values))
    made = []
    parts = _parts(layout, order, saved, saved.queries, order.take(grad))
    for n, (tile, heads, keys, values, (part, above)) in enumerate(parts):
        weights = saved.weights[n] if saved.weights else _weights(part, keys, tile.bias).to(part.dtype)
        _add(grad_v[heads], tile, _across(above.mT, weights.mT))
        slopes = _across(above, values)
        scores = torch._softmax_backward_data(slopes, weights, -1, slopes.dtype)  # noqa: SLF001 - sums are fp32
        _add(grad_k[heads], tile, _across(part.mT, scores.mT))
        made.append(_across(scores, keys.mT).view(-1, d))
    return order.put(torch.cat(made).mul_(scale)), grad_k, grad_v


class _Tiles(torch.autograd.Function):
    """What attention weights are not kept are made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, keep: bool) -> Tensor:
        out, saved = forward(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), layout, scale, keep=keep)
        ctx.save_for_backward(*saved.tensors())
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_q, grad_k, grad_v = backward(grad, Saved.of(*ctx.saved_tensors), ctx.layout, ctx.scale)
        return grad_q.transpose(0, 1), grad_k.transpose(1, 2), grad_v.transpose(1, 2), None, None, None


def _parts(
    layout: Layout, order: TileOrder, saved: Saved, *rows: Tensor
) -> Iterator[tuple[Tile, slice | int, Tensor, Tensor, tuple[Tensor, ...]]]:
    """Tile, key heads, their keys and values (K, n, d), and the tile's piece (K, m, d) of each of ``rows``, in order.

    Where even one key head makes a large product, heads come one by one: (n, d) and (m, d).
    """
    K, _, d = saved.keys.shape
    fast = saved.keys.dtype == torch.float32 and gemm.available()
    pieces = zip(*(torch.split(each, order.sizes) for each in rows), strict=True)
    for tile, piece in zip(layout.tiles, pieces, strict=True):
        keys, values = _keys(saved.keys, tile), _keys(saved.values, tile)
        parts = tuple(part.view(K, -1, d) for part in piece)
        if fast and parts[0].numel() // K * keys.shape[1] >= LARGE_PRODUCT:
            every = zip(keys.unbind(0), values.unbind(0), *(part.unbind(0) for part in parts), strict=True)
            for head, (k, v, *own) in enumerate(every):
                yield tile, head, k, v, tuple(own)
        else:
            yield tile, slice(None), keys, values, parts


def _keys(k: Tensor, tile: Tile) -> Tensor:
    """(K, keys, d)."""
    first, last = tile.before
    if last == tile.own or first == last:
        return k[:, first if first < last else tile.own : tile.stop]
    return torch.cat([k[:, first:last], k[:, tile.own : tile.stop]], 1)


def _add(grad: Tensor, tile: Tile, made: Tensor) -> None:
    """``made`` (…, d, keys) to its places in ``grad`` (…, d, T)."""
    first, last = tile.before
    if last == tile.own or first == last:
        grad[..., first if first < last else tile.own : tile.stop].add_(made)
        return
    grad[..., first:last].add_(made[..., : last - first])
    grad[..., tile.own : tile.stop].add_(made[..., last - first :])


def _weights(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """(…, m, keys), fp32 (fp64 for fp64): the softmax of the scores."""
    scores = _across(queries, keys)
    if scores.dtype == torch.bfloat16:
        scores = scores.float()
    n, masked = bias.shape
    if masked:
        every = scores.shape[-1]
        scores.view(-1, n, every).narrow(2, every - masked, masked).add_(bias)
    return torch.softmax(scores, -1)


def _across(a: Tensor, b: Tensor) -> Tensor:
    """(…, M, N): a (…, M, K) times the transpose of b (…, N, K)."""
    return gemm.across(a, b) if a.dim() == 2 else torch.bmm(a, b.mT)
