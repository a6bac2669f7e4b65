"""Pairs whose outcome is expected to tell most about what people prefer."""

from collections.abc import Sequence
from random import Random
from uuid import UUID

import numpy as np

from worker.refill.strategies.features import ANSWER_PLACES, Vector, answer_features
from worker.refill.strategies.history import Judged
from worker.refill.strategies.options import Option
from worker.refill.strategies.posterior import Posterior


class Information:
    """Expected information about a Bradley-Terry reward that was fitted to the votes so far.

    Taken one by one: what the first one is expected to tell, the next one cannot tell again.
    """

    name = "information"
    pooled = True
    reads_rewards = True

    def __init__(self, judged: Sequence[Judged]) -> None:
        differences = [answer_features(item.a) - answer_features(item.b) for item in judged]
        outcomes = np.array([item.outcome for item in judged], dtype=float)
        stacked = np.array(differences) if differences else np.zeros((0, ANSWER_PLACES))
        self._posterior = Posterior.fit(stacked, outcomes)

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        """By expected information, bits, summed over an option's pairs."""
        differences = [self._differences(option) for option in options]
        lengths = [len(rows) for rows in differences]
        starts = np.cumsum([0, *lengths])
        stacked = np.concatenate(differences) if differences else np.zeros((0, ANSWER_PLACES))
        posterior = self._posterior
        free = set(range(len(options)))
        of_prompt: dict[UUID, int] = {}
        taken: list[tuple[int, float]] = []
        while free and len(taken) < count:
            bits = posterior.information(stacked)
            scores = {index: float(bits[starts[index] : starts[index + 1]].sum()) for index in free}
            first = max(free, key=lambda index: (scores[index], rng.random()))
            taken.append((first, scores[first]))
            free.discard(first)
            for difference in differences[first]:
                posterior = posterior.after(difference)
            prompt_id = options[first].prompt_id
            of_prompt[prompt_id] = of_prompt.get(prompt_id, 0) + 1
            if of_prompt[prompt_id] >= per_prompt:
                free = {index for index in free if options[index].prompt_id != prompt_id}
        return taken

    @staticmethod
    def _differences(option: Option) -> Vector:
        """(pairs, d)"""
        features = {id(answer): answer_features(answer) for answer in option.answers}
        return np.array([features[id(a)] - features[id(b)] for a, b in option.pairs])
