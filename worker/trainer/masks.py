"""Who may look at whom in a shared row: a completion sees its prompt and itself, and nothing of its siblings.

The rule is one function of places in the row. On CUDA it becomes a FlexAttention block mask that skips what is hidden;
on a CPU tiles do (``blocks``), and a dense boolean mask serves the models that tiles cannot.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worker.trainer import blocks
from worker.trainer.packing import FLEX_BLOCK, Batch

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

SCORES_AT_ONCE = 1 << 26
"""Places of a mask that are looked at together while its blocks are found: some hundred MiB."""

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def windows(config: Any) -> dict[str, int | None] | int | None:
    """Sliding windows (tokens; None: unlimited) of a model: one for all layers, or one per layer type.

    Raises:
        ValueError: a layer type whose attention is neither full nor a sliding window.
    """
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    types = set(getattr(config, "layer_types", None) or ())
    unknown = types - {"full_attention", "sliding_attention"}
    if unknown:
        raise ValueError(f"layers of type {', '.join(sorted(unknown))} have no group-shared form")
    if not types:
        return window
    if types == {"full_attention"}:
        return None
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(types)}


def dense(batch: Batch, window: int | None = None) -> Tensor:
    """(B, 1, T, T), bool: [b, 0, q, k] is whether token q may look at token k. Padding sees itself only."""
    return _seen(_bounds(batch.spans, batch.positions, window), slice(None))[:, None]


def block(spans: Tensor, positions: Tensor, window: int | None = None) -> "BlockMask":
    """The same rule as a FlexAttention block mask, of ``spans`` and ``positions`` as a ``Batch`` has them.

    T is a multiple of ``FLEX_BLOCK``. Found with plain operators, which can be recorded and played back: compiled,
    FlexAttention's own way waits for a compiler whenever lengths change, and uncompiled it goes through ``vmap``.
    """
    from torch.nn.attention.flex_attention import BlockMask

    B, T = positions.shape
    bounds = _bounds(spans, positions, window)
    across = T // FLEX_BLOCK
    at_once = max(1, SCORES_AT_ONCE // (B * T * FLEX_BLOCK))
    counts = torch.cat(
        [
            _seen(bounds, slice(first * FLEX_BLOCK, (first + at_once) * FLEX_BLOCK))
            .view(B, -1, FLEX_BLOCK, across, FLEX_BLOCK)
            .sum((2, 4), dtype=torch.int32)
            for first in range(0, across, at_once)
        ],
        1,
    )[:, None]
    whole = counts == FLEX_BLOCK * FLEX_BLOCK
    part = (counts > 0) & ~whole
    return BlockMask(
        (T, T),
        *_ordered(part),
        *_ordered(whole),
        *_ordered(part.mT),
        *_ordered(whole.mT),
        BLOCK_SIZE=(FLEX_BLOCK, FLEX_BLOCK),
        mask_mod=_rule(bounds),
    )


def mask_function(batch: Batch, window: int | None = None) -> MaskFunction:
    """The rule as FlexAttention asks it: (batch, head, query, key) indices to bool."""
    return _rule(_bounds(batch.spans, batch.positions, window))


def for_model(batch: Batch, config: Any, *, flex: bool) -> "Tensor | BlockMask | dict[str, Tensor | BlockMask]":
    """The attention mask a transformers model takes for a shared batch: one, or one per layer type."""
    if flex:
        return blocks_for_model(batch.spans, batch.positions, config)
    make: Callable[[Batch, int | None], Tensor] = blocks.carrier if batch.path == "tiles" else dense
    found = windows(config)
    if isinstance(found, dict):
        return {kind: make(batch, window) for kind, window in found.items()}
    return make(batch, found)


def blocks_for_model(
    spans: Tensor, positions: Tensor, config: Any
) -> "Tensor | BlockMask | dict[str, Tensor | BlockMask]":
    """The block mask that a transformers model takes: one, or one per layer type."""
    found = windows(config)
    if isinstance(found, dict):
        return {kind: block(spans, positions, window) for kind, window in found.items()}
    return block(spans, positions, found)


def padding(batch: Batch) -> Tensor:
    """(B, T), 1 where there is a token: the mask of plain rows, which the model makes causal itself."""
    return batch.real.to(torch.long)


def _bounds(spans: Tensor, positions: Tensor, window: int | None) -> Tensor:
    """(3, B, T), int32, places: token q sees those from the first up to the second, and from the third up to itself.

    The first two are the prompt's, the third begins its own completion; a window moves the first and the third, as
    places of a completion go in step with positions.
    """
    if window is None:
        return spans
    group, prompt_end, own = spans.unbind(0)
    places = torch.arange(spans.shape[2], device=spans.device, dtype=spans.dtype)
    first = torch.maximum(group, group + positions.to(spans.dtype) - window + 1)
    return torch.stack([first, prompt_end, torch.maximum(own, places - window + 1)])


def _rule(bounds: Tensor) -> MaskFunction:
    first, end, own = bounds.unbind(0)

    def visible(b: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return _visible(first[b, q], end[b, q], own[b, q], q, k)

    return visible


def _seen(bounds: Tensor, rows: slice) -> Tensor:
    """(B, n, T), bool: what the tokens at ``rows`` may look at."""
    first, end, own = bounds[:, :, rows, None].unbind(0)
    places = torch.arange(bounds.shape[2], device=bounds.device, dtype=bounds.dtype)
    return _visible(first, end, own, places[rows, None], places)


def _visible(first: Tensor, end: Tensor, own: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return (k <= q) & ((k >= own) | ((k >= first) & (k < end)))


def _ordered(seen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row of ``seen`` (…, n, n) has, and the numbers of all, those that it has first; int32."""
    numbers = torch.argsort(seen.to(torch.int8), dim=-1, descending=True, stable=True)
    return seen.sum(-1, dtype=torch.int32), numbers.to(torch.int32)
