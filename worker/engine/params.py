"""How one request wants its completions sampled."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

_MASK_64 = (1 << 64) - 1
BLOCK = 64
"""Numbers drawn at once."""


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


class Uniforms:
    """Endless numbers in [0, 1): the i-th decides the i-th token of the request's choice number ``choice``.

    Philox is counter-based, and its raw stream is fixed by numpy for good: the same (seed, choice, position) gives
    the same number whatever else is being sampled. 52 bits, so that u * total < total in float64 for any total.
    """

    def __init__(self, seed: int, choice: int) -> None:
        self._bits = Philox(key=(seed & _MASK_64) | (choice << 64))
        self._ahead = np.empty(0)

    def take(self, count: int) -> NDArray[np.float64]:
        """The next ``count`` numbers."""
        while len(self._ahead) < count:
            self._ahead = np.concatenate([self._ahead, (self._bits.random_raw(BLOCK) >> 12) * 2.0**-52])
        found, self._ahead = self._ahead[:count], self._ahead[count:]
        return found

    def __next__(self) -> float:
        return float(self.take(1)[0])
