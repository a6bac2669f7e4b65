"""Pairs of which the current version does not know which answer people prefer.

A version trained by DPO is its own reward model: r = beta (log pi(y|x) - log ref(y|x)), up to a constant of the
prompt (arXiv:2305.18290, eq. 5), and gives the preference sigma(r_a - r_b). It is least sure where the margin is
small. Version 1 has learned nothing and has no rewards; there, and where one could not be measured, the choice is a
draw.
"""

import math
from collections.abc import Sequence
from random import Random

from worker.refill.strategies.options import Option, top


class Uncertainty:
    """Smallest absolute margin of the implicit reward first."""

    name = "uncertainty"
    pooled = True
    reads_rewards = True

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        """By the entropy of the preference that the version itself would give, bits, mean over an option's pairs."""
        scores = [entropy_of(option) for option in options]
        return [(index, scores[index]) for index in top(scores, options, count, per_prompt, rng)]


def entropy_of(option: Option) -> float:
    """Bits in the outcome as the version foresees it, 0 … 1; a pair without rewards counts as even odds."""
    bits = []
    for a, b in option.pairs:
        margin = 0.0 if a.reward is None or b.reward is None else a.reward - b.reward
        bits.append(binary_entropy(1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, margin))))))
    return sum(bits) / len(bits)


def binary_entropy(p: float) -> float:
    """Bits in a yes or no of probability ``p``."""
    if p <= 0.0 or p >= 1.0:
        return 0.0
    return -p * math.log2(p) - (1.0 - p) * math.log2(1.0 - p)
