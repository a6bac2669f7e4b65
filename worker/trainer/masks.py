"""Who may look at whom in a shared row: a completion sees its prompt and itself, and nothing of its siblings.

The rule is one function of (document, segment, position). On CUDA it becomes a FlexAttention block mask that skips
what is hidden; on a CPU tiles do (``blocks``), and a dense boolean mask serves the models that tiles cannot.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worker.trainer import blocks
from worker.trainer.packing import Batch

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

FLEX_BLOCK = 128
"""Rows for FlexAttention are padded to a multiple of this many tokens."""

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
    """(B, 1, T, T), bool: [b, 0, q, k] is whether token q may look at token k. Padding sees padding only."""
    q = (batch.document[:, :, None], batch.segment[:, :, None], batch.positions[:, :, None])
    k = (batch.document[:, None, :], batch.segment[:, None, :], batch.positions[:, None, :])
    return _visible(q, k, window)[:, None]


def block(batch: Batch, window: int | None = None) -> "BlockMask":
    """The same rule as a FlexAttention block mask; T is a multiple of ``FLEX_BLOCK``."""
    from torch.nn.attention.flex_attention import create_block_mask

    B, T = batch.ids.shape
    return create_block_mask(mask_function(batch, window), B, None, T, T, device=batch.ids.device, _compile=True)


def mask_function(batch: Batch, window: int | None = None) -> MaskFunction:
    """The rule as FlexAttention asks it: (batch, head, query, key) indices to bool."""
    document, segment, positions = batch.document, batch.segment, batch.positions

    def visible(b: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return _visible(
            (document[b, q], segment[b, q], positions[b, q]), (document[b, k], segment[b, k], positions[b, k]), window
        )

    return visible


def for_model(batch: Batch, config: Any, *, flex: bool) -> "Tensor | BlockMask | dict[str, Tensor | BlockMask]":
    """The attention mask a transformers model takes for a shared batch: one, or one per layer type."""
    make: Callable[[Batch, int | None], Tensor | BlockMask] = (
        blocks.carrier if batch.path == "tiles" else block if flex else dense
    )
    found = windows(config)
    if isinstance(found, dict):
        return {kind: make(batch, window) for kind, window in found.items()}
    return make(batch, found)


def padding(batch: Batch) -> Tensor:
    """(B, T), 1 where there is a token: the mask of plain rows, which the model makes causal itself."""
    return (batch.document >= 0).to(torch.long)


_Place = tuple[Tensor, Tensor, Tensor]


def _visible(q: _Place, k: _Place, window: int | None) -> Tensor:
    (q_document, q_segment, q_position), (k_document, k_segment, k_position) = q, k
    seen = (q_document == k_document) & ((k_segment == 0) | (k_segment == q_segment)) & (k_position <= q_position)
    if window is not None:
        seen = seen & (q_position - k_position < window)
    return seen
