"""Every pair of every prompt is as good as any other."""

from collections.abc import Sequence
from random import Random

from worker.refill.strategies.options import Option, top


class Chance:
    """Random choice: the yardstick of all others, and the only one that costs no sampling on top."""

    name = "random"
    pooled = False
    reads_rewards = False

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        """Any."""
        taken = top([0.0] * len(options), options, count, per_prompt, rng)
        return [(index, 0.0) for index in taken]
