"""Prompts that are unlike those that have been compared, and unlike each other."""

from collections.abc import Sequence
from random import Random
from uuid import UUID

import numpy as np

from worker.refill.strategies.features import PROMPT_PLACES, prompt_features
from worker.refill.strategies.options import Option


class Diversity:
    """Farthest first (k-centre, greedy): each next prompt is the one least like all that are there, by its words."""

    name = "diversity"
    pooled = True
    reads_rewards = False

    def __init__(self, compared: Sequence[str]) -> None:
        """``compared``: prompts of recent comparisons, as text."""
        vectors = [prompt_features(text) for text in compared]
        self._compared = np.array(vectors) if vectors else np.zeros((0, PROMPT_PLACES))

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        """By 1 - the largest similarity to any prompt that was compared or taken before."""
        by_prompt: dict[UUID, list[int]] = {}
        for index, option in enumerate(options):
            by_prompt.setdefault(option.prompt_id, []).append(index)
        prompts = list(by_prompt)
        vectors = np.array([prompt_features(options[by_prompt[prompt][0]].prompt) for prompt in prompts])
        nearest = (vectors @ self._compared.T).max(axis=1, initial=0.0)
        free = set(range(len(prompts)))
        taken: list[tuple[int, float]] = []
        while free and len(taken) < count:
            place = min(free, key=lambda place: (float(nearest[place]), rng.random()))
            free.discard(place)
            of_prompt = by_prompt[prompts[place]]
            fitting = min(per_prompt, len(of_prompt), count - len(taken))
            taken.extend((index, 1.0 - float(nearest[place])) for index in rng.sample(of_prompt, fitting))
            nearest = np.maximum(nearest, vectors @ vectors[place])
        return taken
