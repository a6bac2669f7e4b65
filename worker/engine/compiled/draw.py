"""Drawing one token per row: filters and draw in one compiled pass, row by row."""

import numpy as np

from worker.engine.compiled.arithmetic import exp
from worker.engine.compiled.jit import compiled
from worker.engine.compiled.vectors import float_of_bits, largest, mass_above, total

_CHUNK = 128
_NOTHING = np.float32(0.0)
_BITS_OF_ONE = 0x3F800000
_BELOW_ONE = 1.0 - 2.0**-52


@compiled
def draw(logits, step, vocabulary, first, last, uniform, temperature, top_k, top_p, min_p, tokens):
    """Draw rows ``first`` … ``last - 1``.

    ``logits`` flat float32, a row of ``vocabulary`` numbers at every multiple of ``step``; settings (rows,): float64,
    ``top_k`` int64 with 0 for no limit. ``tokens`` (rows,) int64 takes the results; ``vocabulary`` where a row's
    logits are not numbers.
    """
    size = (vocabulary + _CHUNK - 1) // _CHUNK * _CHUNK
    probs = np.empty(size, np.float32)
    for r in range(first, last):
        row = logits[r * step : r * step + vocabulary]
        if temperature[r] == 0.0:
            tokens[r] = _likeliest(row, vocabulary)
            continue
        warmth = np.float32(temperature[r])
        for i in range(vocabulary):
            probs[i] = row[i] / warmth
        probs[vocabulary:] = -np.inf
        best = largest(probs, 0, size)
        if not np.isfinite(best):
            tokens[r] = vocabulary
            continue
        for i in range(size):
            probs[i] = exp(probs[i] - best)
        if 0 < top_k[r] < vocabulary:
            _drop_below(probs, size, _top_k_cut(probs, size, top_k[r]))
        if top_p[r] < 1.0:
            _drop_below(probs, size, _top_p_cut(probs, size, top_p[r]))
        if min_p[r] > 0.0:
            _drop_below(probs, size, np.float32(min_p[r]))  # the likeliest has 1
        tokens[r] = _invert(probs, size, uniform[r])


@compiled
def _likeliest(row, vocabulary):
    best, place = row[0], 0
    for i in range(vocabulary):
        if row[i] != row[i]:
            return vocabulary
        if row[i] > best:
            best, place = row[i], i
    return place


@compiled
def _drop_below(probs, size, cut):
    for i in range(size):
        probs[i] = _NOTHING if probs[i] < cut else probs[i]


@compiled
def _top_k_cut(probs, size, k):
    """The smallest number above which fewer than ``k`` of the numbers in [0, 1] lie, by halving: no sorting.

    Those at the cut stay: tokens exactly as likely as the last one kept are kept too.
    """
    low, high = 0, _BITS_OF_ONE
    while low < high:
        middle = (low + high) // 2
        bound, above = float_of_bits(np.int32(middle)), 0
        for i in range(size):
            above += probs[i] > bound
        if above < k:
            high = middle
        else:
            low = middle + 1
    return float_of_bits(np.int32(low))


@compiled
def _top_p_cut(probs, size, top_p):
    """The same for the mass: a token stays while those likelier than it hold less than ``top_p`` of all."""
    wanted = top_p * mass_above(probs, size, _NOTHING)
    low, high = 0, _BITS_OF_ONE
    while low < high:
        middle = (low + high) // 2
        if mass_above(probs, size, float_of_bits(np.int32(middle))) < wanted:
            high = middle
        else:
            low = middle + 1
    return float_of_bits(np.int32(low))


@compiled
def _invert(probs, size, uniform):
    """The token at which the running sum, in float64, first exceeds ``uniform`` × the total."""
    mass = 0.0
    for at in range(0, size, _CHUNK):
        mass += total(probs, at, _CHUNK)
    target, before, chunk = uniform * mass, 0.0, 0
    for at in range(0, size, _CHUNK):
        inside = total(probs, at, _CHUNK)
        if inside > 0.0:
            chunk = at
            if before + inside > target:
                break
        before += inside
    # Rounding may leave a residue at or past the chunk's end, where only tokens of probability 0 lie.
    whole = 0.0
    for i in range(chunk, chunk + _CHUNK):
        whole += probs[i]
    residue = min(max(target - before, 0.0), whole * _BELOW_ONE)
    running, token = 0.0, chunk
    for i in range(chunk, chunk + _CHUNK):
        running += probs[i]
        if running > residue:
            token = i
            break
    return token
