"""How one request wants its completions sampled."""

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Philox

_MASK_64 = (1 << 64) - 1
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Checked and complete: every field has the value that is used.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 filter nothing. ``logprobs`` is the number
    of alternatives reported beside each sampled token (0: the sampled token only), None for none at all.
    """

    seed: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None


def uniforms(seed: int, choice: int) -> Iterator[float]:
    """Endless numbers in [0, 1): the i-th decides the i-th token of the request's choice number ``choice``.

    Philox is counter-based, and its raw stream is fixed by numpy for good: the same (seed, choice, position) gives
    the same number whatever else is being sampled. 52 bits, so that u * total < total in float64 for any total.
    """
    bits = Philox(key=(seed & _MASK_64) | (choice << 64))
    while True:
        yield from ((bits.random_raw(_BLOCK) >> 12) * 2.0**-52).tolist()
