"""Compiling ahead of the first version, so that none waits for it."""

import numpy as np

from worker.engine.compiled.decode import Adapter, Shape, Weights, decode, scratch_size
from worker.engine.compiled.draw import draw
from worker.engine.compiled.vectors import PANEL


def warm() -> None:
    """Compile what samples, or read what an earlier process compiled: seconds the first time, then tenths of one."""
    size = PANEL
    shape = Shape(
        layers=1, hidden=size, hidden_width=size, heads=1, kv_heads=1, head_size=size, mlp=size, mlp_width=size,
        vocabulary=size, vocabulary_width=size, rank=0, scale=1.0, epsilon=1e-6, biased=False, head_norms=False,
    )  # fmt: skip
    nothing, vector = np.zeros(0, np.float32), np.zeros(size, np.float32)
    square, wide = np.zeros(size * size, np.float32), np.zeros(3 * size * size, np.float32)
    weights = Weights(
        embedding=square, before_attention=vector, before_mlp=vector, last_norm=vector, qkv=wide, qkv_bias=nothing,
        out=square, gate=square, up=square, down=square, head=square, query_norm=nothing, key_norm=nothing,
        turns=square,
    )  # fmt: skip
    places, memory, logits = np.zeros(1, np.int64), np.zeros(2 * PANEL * size, np.float32), np.zeros(size, np.float32)
    adapter = Adapter(*[nothing] * len(Adapter._fields))
    scratch = np.zeros(scratch_size(1, PANEL, shape), np.float32)
    decode(places, places, memory, 1, PANEL, 0, 1, shape, weights, adapter, scratch, logits)
    one = np.ones(1)
    draw(logits, size, size, 0, 1, np.zeros(1), one, places, one, np.zeros(1), np.zeros(1, np.int64))
