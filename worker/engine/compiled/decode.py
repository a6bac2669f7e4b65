"""One token for each of some rows: the whole decoder in one compiled call."""

from typing import Any, NamedTuple

import numpy as np

from worker.engine.compiled.arithmetic import attend, gate, normalise, normalise_heads, product, remember, rotate
from worker.engine.compiled.jit import compiled
from worker.engine.compiled.vectors import PANEL


class Shape(NamedTuple):
    """Sizes; ``width`` ones are rounded up to whole panels."""

    layers: int
    hidden: int
    hidden_width: int
    heads: int
    kv_heads: int
    head_size: int
    mlp: int
    mlp_width: int
    vocabulary: int
    vocabulary_width: int
    rank: int
    """Columns of LoRA's first matrices, whole panels; 0 without an adapter."""
    scale: float
    epsilon: float
    biased: bool
    head_norms: bool


class Weights(NamedTuple):
    """Flat float32 arrays, all layers of a kind one after the other; products in panels."""

    embedding: Any
    before_attention: Any
    before_mlp: Any
    last_norm: Any
    qkv: Any
    qkv_bias: Any
    out: Any
    gate: Any
    up: Any
    down: Any
    head: Any
    query_norm: Any
    key_norm: Any
    turns: Any


class Adapter(NamedTuple):
    """LoRA's matrices in panels, first and second of each projection; empty without an adapter."""

    qkv: Any
    qkv_up: Any
    out: Any
    out_up: Any
    gate: Any
    gate_up: Any
    up: Any
    up_up: Any
    down: Any
    down_up: Any


@compiled
def _panels(size):
    return (size + PANEL - 1) // PANEL * PANEL


def scratch_size(rows: int, longest: int, shape: Shape) -> int:
    """Floats that ``decode`` needs for so many rows, the longest of so many tokens."""
    queries = shape.heads * shape.head_size
    qkv = _up(queries + 2 * shape.kv_heads * shape.head_size)
    each = 2 * shape.hidden_width + qkv + queries + 2 * shape.mlp_width + shape.rank
    return rows * each + shape.heads // shape.kv_heads * _up(longest)


def _up(size: int) -> int:
    return -(-size // PANEL) * PANEL


@compiled
def _take(room, size):
    return room[:size], room[size:]


@compiled
def _adapt(x, rows, x_width, depth, first, second, layer, rank, thin, columns, out, out_width):
    """out += second(first(x)) of one layer, where there is an adapter."""
    if rank == 0:
        return
    product(x, rows, x_width, depth, first, layer * depth * rank, rank, thin, rank, False)
    product(thin, rows, rank, rank, second, layer * rank * columns, columns, out, out_width, True)


@compiled
def _attention(qkv, rows, qkv_width, positions, memory, slots, capacity, first, layer, shape, weights, scores, seen):
    """Turn queries and keys, remember keys and values, and have every row look at its own slot."""
    size, group = shape.head_size, shape.heads // shape.kv_heads
    queries, kv_size = shape.heads * size, 2 * shape.kv_heads * size
    for r in range(rows):
        place = positions[first + r]
        row = qkv[r * qkv_width : (r + 1) * qkv_width]
        if shape.head_norms:
            norm = weights.query_norm[layer * size : (layer + 1) * size]
            normalise_heads(row, shape.heads, size, norm, shape.epsilon)
            norm = weights.key_norm[layer * size : (layer + 1) * size]
            normalise_heads(row[queries:], shape.kv_heads, size, norm, shape.epsilon)
        rotate(row, shape.heads + shape.kv_heads, size, weights.turns[place * size : (place + 1) * size])
        at = (layer * slots + first + r) * capacity * kv_size
        slot = memory[at : at + capacity * kv_size]
        remember(row[queries:], row[queries + kv_size // 2 :], shape.kv_heads, size, capacity, place, slot)
        wide = _panels(place + 1)
        attend(
            row, group, shape.kv_heads, size, capacity, slot, place + 1, np.float32(shape.scale), scores, wide,
            seen[r * queries : (r + 1) * queries],
        )  # fmt: skip


@compiled
def decode(ids, positions, memory, slots, capacity, first, last, shape, weights, adapter, scratch, logits):
    """Compute rows ``first`` … ``last - 1``: their keys and values go to ``memory``, their logits to ``logits``.

    ``ids`` and ``positions`` (all rows,) int64; ``memory`` flat (layers, slots, capacity, keys and values), row r in
    slot r; ``scratch`` at least ``scratch_size`` long, this call's alone; ``logits`` flat (all rows, vocabulary width).
    """
    rows, size = last - first, shape.head_size
    width, hidden = shape.hidden_width, shape.hidden
    queries = shape.heads * size
    qkv_width = len(weights.qkv) // (shape.layers * hidden)
    mlp = shape.mlp_width
    x, room = _take(scratch, rows * width)
    h, room = _take(room, rows * width)
    qkv, room = _take(room, rows * qkv_width)
    seen, room = _take(room, rows * queries)
    gates, room = _take(room, rows * mlp)
    ups, room = _take(room, rows * mlp)
    thin, scores = _take(room, rows * shape.rank)
    x[:] = h[:] = np.float32(0.0)
    for r in range(rows):
        at = ids[first + r] * hidden
        for i in range(hidden):
            x[r * width + i] = weights.embedding[at + i]
    for layer in range(shape.layers):
        norm = weights.before_attention[layer * hidden : (layer + 1) * hidden]
        normalise(x, rows, width, hidden, norm, shape.epsilon, h)
        if shape.biased:
            for r in range(rows):
                for i in range(qkv_width):
                    qkv[r * qkv_width + i] = weights.qkv_bias[layer * qkv_width + i]
        at = layer * hidden * qkv_width
        product(h, rows, width, hidden, weights.qkv, at, qkv_width, qkv, qkv_width, shape.biased)
        _adapt(h, rows, width, hidden, adapter.qkv, adapter.qkv_up, layer, shape.rank, thin, qkv_width, qkv, qkv_width)
        _attention(qkv, rows, qkv_width, positions, memory, slots, capacity, first, layer, shape, weights, scores, seen)
        product(seen, rows, queries, queries, weights.out, layer * queries * width, width, x, width, True)
        _adapt(seen, rows, queries, queries, adapter.out, adapter.out_up, layer, shape.rank, thin, width, x, width)
        norm = weights.before_mlp[layer * hidden : (layer + 1) * hidden]
        normalise(x, rows, width, hidden, norm, shape.epsilon, h)
        at = layer * hidden * mlp
        product(h, rows, width, hidden, weights.gate, at, mlp, gates, mlp, False)
        product(h, rows, width, hidden, weights.up, at, mlp, ups, mlp, False)
        _adapt(h, rows, width, hidden, adapter.gate, adapter.gate_up, layer, shape.rank, thin, mlp, gates, mlp)
        _adapt(h, rows, width, hidden, adapter.up, adapter.up_up, layer, shape.rank, thin, mlp, ups, mlp)
        gate(gates, ups, rows * mlp)
        product(gates, rows, mlp, shape.mlp, weights.down, layer * shape.mlp * width, width, x, width, True)
        _adapt(gates, rows, mlp, shape.mlp, adapter.down, adapter.down_up, layer, shape.rank, thin, width, x, width)
    normalise(x, rows, width, hidden, weights.last_norm, shape.epsilon, h)
    wide = shape.vocabulary_width
    mine = logits[first * wide : last * wide]
    product(h, rows, width, hidden, weights.head, 0, wide, mine, wide, False)
