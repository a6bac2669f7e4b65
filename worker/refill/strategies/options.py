"""What a strategy chooses among, and the interface that all strategies have."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Protocol
from uuid import UUID

from worker.refill.answers import Answer


@dataclass(frozen=True, slots=True)
class Option:
    """Something that could be shown: two answers to a prompt, or all of them to be ranked."""

    prompt_id: UUID
    prompt: str
    """The last turn of the conversation, as text."""
    answers: tuple[Answer, ...]

    @property
    def pairs(self) -> list[tuple[Answer, Answer]]:
        """Every two of its answers; a pair has one."""
        return list(combinations(self.answers, 2))


class Strategy(Protocol):
    """Which options are most worth a person's time.

    It says nothing of chance: ``choose.choose`` mixes its wishes with an even draw and knows every propensity.
    """

    name: str
    pooled: bool
    """It compares several prompts' options with each other, so more are sampled than shown."""
    reads_rewards: bool
    """It reads the implicit rewards of answers, which have to be measured."""

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        """The ``count`` options it would take, best first, at most ``per_prompt`` of one prompt.

        Args:
            rng: settles what is equal.

        Returns:
            Indexes into ``options``, each with the score for which it was taken (higher is better).
        """
        ...


def top(scores: Sequence[float], options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[int]:
    """Indexes of the highest ``scores``, at most ``per_prompt`` of one prompt; equal ones in random order."""
    order = sorted(range(len(options)), key=lambda index: (-scores[index], rng.random()))
    taken: list[int] = []
    of_prompt: dict[UUID, int] = {}
    for index in order:
        prompt_id = options[index].prompt_id
        if len(taken) < count and of_prompt.get(prompt_id, 0) < per_prompt:
            of_prompt[prompt_id] = of_prompt.get(prompt_id, 0) + 1
            taken.append(index)
    return taken
