"""The arithmetic of a decoder of Llama's shape, one token per row, compiled for the processor it runs on.

Arrays are flat float32; a row of ``width`` numbers starts at a multiple of ``width``, and widths are rounded up to
whole panels, the rest being zeros.
"""

# Typed by numba at the first call; annotations would say less than the docstrings.
import math

import numpy as np

from worker.engine.compiled.jit import compiled
from worker.engine.compiled.vectors import LANES, PANEL, dot, largest, power_of_two, tile, total

_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
# e^r on |r| <= ln(2)/2 as 1 + r + r² p(r): the minimax polynomial of Cephes' expf.
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)

_tile6, _tile4, _tile2, _tile1 = tile(6), tile(4), tile(2), tile(1)


@compiled(inline="always")
def exp(x):
    """e^x in float32, within 2 units in the last place; 0 below -87, where float32 has no full precision left."""
    low = x < _LOWEST
    clamped = _LOWEST if low else x
    clamped = min(clamped, _HIGHEST)
    whole = np.float32(math.floor(clamped * _LOG2_E + _HALF))
    r = clamped - whole * _LN2_HIGH - whole * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    found = (p * r * r + r + _ONE) * power_of_two(whole)
    return np.float32(0.0) if low else found


@compiled
def product(x, rows, x_width, depth, w, w_at, columns, out, out_width, begin):
    """out (rows, columns) = x (rows, depth) times the panels at ``w_at``, added to ``out`` where ``begin``."""
    for panel in range(columns // PANEL):
        at = w_at + panel * depth * PANEL
        c = panel * PANEL
        r = 0
        while rows - r >= 6:
            _tile6(x, r * x_width, x_width, w, at, PANEL, LANES, depth, out, r * out_width + c, out_width, begin)
            r += 6
        if rows - r >= 4:
            _tile4(x, r * x_width, x_width, w, at, PANEL, LANES, depth, out, r * out_width + c, out_width, begin)
            r += 4
        if rows - r >= 2:
            _tile2(x, r * x_width, x_width, w, at, PANEL, LANES, depth, out, r * out_width + c, out_width, begin)
            r += 2
        if rows - r >= 1:
            _tile1(x, r * x_width, x_width, w, at, PANEL, LANES, depth, out, r * out_width + c, out_width, begin)


@compiled
def normalise(x, rows, width, size, weight, epsilon, out):
    """Root mean square norm of each row's first ``size`` numbers."""
    for r in range(rows):
        at = r * width
        scale = np.float32(1.0 / math.sqrt(dot(x, at, x, at, width) / size + epsilon))
        row, found = x[at : at + size], out[at : at + size]
        for i in range(size):
            found[i] = row[i] * scale * weight[i]


@compiled
def normalise_heads(x, heads, size, weight, epsilon):
    """The same for each head of one row, in place."""
    for head in range(heads):
        row = x[head * size : (head + 1) * size]
        scale = np.float32(1.0 / math.sqrt(dot(row, 0, row, 0, size) / size + epsilon))
        for i in range(size):
            row[i] = row[i] * scale * weight[i]


@compiled
def rotate(x, heads, size, turns):
    """Turn the pairs (2i, 2i + 1) of each head by ``turns``: cosine and sine of each."""
    for head in range(heads):
        row = x[head * size : (head + 1) * size]
        for i in range(size // 2):
            left, right = row[2 * i], row[2 * i + 1]
            cosine, sine = turns[2 * i], turns[2 * i + 1]
            row[2 * i] = left * cosine - right * sine
            row[2 * i + 1] = right * cosine + left * sine


@compiled
def remember(keys, values, kv_heads, size, capacity, place, slot):
    """Write one token to its slot: for each head keys, ``LANES`` tokens side by side, then values, token by token."""
    block, lane = place // LANES * LANES * size, place % LANES
    for kv in range(kv_heads):
        at = kv * 2 * capacity * size
        for i in range(size):
            slot[at + block + i * LANES + lane] = keys[kv * size + i]
        at += (capacity + place) * size
        for i in range(size):
            slot[at + i] = values[kv * size + i]


@compiled
def attend(queries, group, kv_heads, size, capacity, slot, length, scale, scores, width, out):
    """One row: every query head over the ``length`` tokens of its own slot; ``width`` is that in whole panels."""
    for kv in range(kv_heads):
        keys = slot[kv * 2 * capacity * size : (kv * 2 + 1) * capacity * size]
        values = slot[(kv * 2 + 1) * capacity * size : (kv * 2 + 2) * capacity * size]
        mine = queries[kv * group * size : (kv + 1) * group * size]
        found = out[kv * group * size : (kv + 1) * group * size]
        for start in range(0, length, PANEL):
            at, g = start * size, 0
            while group - g >= 2:
                _tile2(
                    mine, g * size, size, keys, at, LANES, LANES * size, size, scores, g * width + start, width, False
                )
                g += 2
            if g < group:
                _tile1(
                    mine, g * size, size, keys, at, LANES, LANES * size, size, scores, g * width + start, width, False
                )
        for g in range(group):
            row = scores[g * width : (g + 1) * width]
            for t in range(length):
                row[t] = row[t] * scale
            for t in range(length, width):
                row[t] = -np.inf
            best = largest(row, 0, width)
            for t in range(width):
                row[t] = exp(row[t] - best)
            share = _ONE / total(row, 0, width)
            for t in range(length):
                row[t] = row[t] * share
        _weigh(scores, group, width, length, values, size, found)


@compiled
def _weigh(shares, group, width, length, values, size, out):
    """Σ_t shares[t] values[t] of each head, in panels where it has whole ones."""
    done = 0
    while size - done >= PANEL:
        g = 0
        while group - g >= 2:
            _tile2(shares, g * width, width, values, done, size, LANES, length, out, g * size + done, size, False)
            g += 2
        if g < group:
            _tile1(shares, g * width, width, values, done, size, LANES, length, out, g * size + done, size, False)
        done += PANEL
    if done < size:
        for g in range(group):
            row = out[g * size + done : (g + 1) * size]
            row[:] = np.float32(0.0)
            for t in range(length):
                share, value = shares[g * width + t], values[t * size + done : (t + 1) * size]
                for i in range(size - done):
                    row[i] += share * value[i]


@compiled
def gate(gates, ups, size):
    """gates = SiLU(gates) · ups."""
    for i in range(size):
        g = gates[i]
        gates[i] = g / (_ONE + exp(-g)) * ups[i]
