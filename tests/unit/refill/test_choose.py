"""Drawing with known probabilities: what is logged is what happens, and weighting undoes it exactly."""

import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.comparisons import weights
from tests.unit.refill.made import answer
from worker.refill.strategies import Chance, Option, choose
from worker.refill.strategies.choose import inclusion, systematic


class Wanting:
    """A strategy that wants the options it is told, in their order."""

    name = "wanting"
    pooled = True
    reads_rewards = False

    def __init__(self, wanted: Sequence[int]) -> None:
        self.wanted = wanted

    def best(self, options: Sequence[Option], count: int, per_prompt: int, rng: Random) -> list[tuple[int, float]]:
        return [(index, 1.0) for index in self.wanted[:count]]


def pool(*answers_per_prompt: int) -> list[Option]:
    """All pairs of each prompt's answers."""
    made = []
    for prompt, count in enumerate(answers_per_prompt):
        answers = [answer(f"answer {number} to {prompt}") for number in range(count)]
        made += [Option(UUID(int=prompt + 1), "", two) for two in itertools.combinations(answers, 2)]
    return made


def test_every_start_hits_as_many_as_the_probabilities_sum_to() -> None:
    chances = [0.2, 0.9, 0.5, 0.4, 1.0]
    hits = [systematic(chances, start) for start in np.linspace(0, 1, 1000, endpoint=False)]
    assert {len(hit) for hit in hits} == {3}
    frequency = [sum(place in hit for hit in hits) / len(hits) for place in range(5)]
    assert frequency == pytest.approx(chances, abs=2e-3)


@given(
    st.lists(st.integers(2, 4), min_size=1, max_size=8),
    st.floats(0.05, 1.0),
    st.integers(1, 6),
    st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_propensities_are_probabilities_that_sum_to_what_is_taken(
    answers: list[int], exploration: float, count: int, seed: int
) -> None:
    options, rng = pool(*answers), Random(seed)
    firsts = [
        next(i for i, option in enumerate(options) if option.prompt_id == UUID(int=p + 1)) for p in range(len(answers))
    ]
    wanted = rng.sample(firsts, len(firsts))
    taken = choose(Wanting(wanted), options, count, per_prompt=1, exploration=exploration, rng=rng)
    assert len(taken) == min(count, len(answers))
    assert len({item.option.prompt_id for item in taken}) == len(taken), "one of a prompt at most"
    assert all(0 < item.propensity <= 1 + 1e-9 for item in taken)
    by_prompt: dict[UUID, list[int]] = {}
    for index, option in enumerate(options):
        by_prompt.setdefault(option.prompt_id, []).append(index)
    asked = dict.fromkeys(wanted[: len(taken)], 1.0) if exploration < 1 else {}
    chances = inclusion(options, by_prompt, asked, len(taken), exploration)
    assert sum(chances) == pytest.approx(len(taken))


def test_what_is_logged_is_how_often_it_happens() -> None:
    """Four prompts, one with three pairs; two are taken, and the strategy wants options 0 and 2."""
    options = pool(2, 3, 2, 2)
    rng, seen, logged = Random(5), Counter[int](), {}
    draws = 20_000
    for _ in range(draws):
        for item in choose(Wanting([0, 2]), options, 2, per_prompt=1, exploration=0.3, rng=rng):
            index = options.index(item.option)
            seen[index] += 1
            logged[index] = item.propensity
    assert set(logged) == set(range(len(options))), "every pair has a chance"
    for index, propensity in logged.items():
        sigma = (propensity * (1 - propensity) / draws) ** 0.5
        assert seen[index] / draws == pytest.approx(propensity, abs=4.5 * sigma), index


def test_the_weighted_total_is_unbiased_whatever_the_strategy_wants() -> None:
    """Exact, not sampled: over every order of prompts the expectation over the start is an integral of steps.

    Outcomes are adversarial: what the strategy wants always comes out 1, everything else 0. The plain mean says 0.80;
    drawn evenly it is 1/4 (one prompt's only pair) + 1/4 of 1/3 (one of a prompt's three pairs) = 1/3.
    """
    options, wanted = pool(2, 3, 2, 2), {0: 1.0, 2: 1.0}
    values = [1.0 if index in wanted else 0.0 for index in range(len(options))]
    by_prompt = {UUID(int=1): [0], UUID(int=2): [1, 2, 3], UUID(int=3): [4], UUID(int=4): [5]}
    chances = inclusion(options, by_prompt, wanted, 2, 0.2)
    importances = [
        1 / (len(by_prompt[option.prompt_id]) * chance) for option, chance in zip(options, chances, strict=True)
    ]
    totals, plain = [], []
    for order in itertools.permutations(by_prompt.values()):
        line = [index for of_prompt in order for index in of_prompt]
        ends = [0.0, *itertools.accumulate(chances[index] for index in line)]
        cuts = sorted({end % 1.0 for end in ends} | {0.0, 1.0})
        for low, high in itertools.pairwise(cuts):
            if high - low < 1e-9:
                continue
            hit = [line[place] for place in systematic([chances[index] for index in line], (low + high) / 2)]
            share = high - low
            totals.append(share * weights.total([values[i] for i in hit], [importances[i] for i in hit]))
            plain.append(share * sum(values[i] for i in hit) / len(hit))
    assert sum(totals) / 24 == pytest.approx(4 * (1 / 3), rel=1e-9), "prompts times the even mean"
    assert sum(plain) / 24 > 0.7, "unweighted, the same votes mislead"


def test_the_weighted_mean_finds_the_even_win_rate_from_biased_votes() -> None:
    """Over many waves: the strategy wants pairs that 'a' wins; drawn evenly 'a' wins 30 %."""
    rng = Random(2)
    values, importances = [], []
    for _ in range(1000):
        options = pool(*[2] * 12)
        wins = [float(rng.random() < 0.3) for _ in options]
        order = sorted(range(12), key=lambda index: -wins[index])
        for item in choose(Wanting(order), options, 4, per_prompt=1, exploration=0.2, rng=rng):
            values.append(wins[options.index(item.option)])
            importances.append(item.importance)
    estimate = weights.mean(values, importances)
    assert estimate.value == pytest.approx(0.3, abs=0.03)
    assert estimate.low < estimate.value < estimate.high
    assert sum(values) / len(values) > 0.6
    assert estimate.effective < len(values), "weights cost precision, and it says how much"


def test_chance_draws_evenly_and_needs_no_weights() -> None:
    taken = choose(Chance(), pool(2, 2, 2), 3, per_prompt=1, exploration=1.0, rng=Random(0))
    assert [(item.propensity, item.importance, item.score) for item in taken] == [(1.0, 1.0, None)] * 3
    of_three = choose(Chance(), pool(3), 1, per_prompt=1, exploration=1.0, rng=Random(0))
    assert (of_three[0].propensity, of_three[0].importance) == (pytest.approx(1 / 3), pytest.approx(1.0))
    both = choose(Chance(), pool(3), 2, per_prompt=2, exploration=1.0, rng=Random(0))
    assert [item.importance for item in both] == pytest.approx([0.5, 0.5]), "together they stand for one prompt"


def test_without_exploration_nothing_can_be_weighted_back() -> None:
    with pytest.raises(ValueError, match="could never be taken"):
        choose(Chance(), pool(2), 1, per_prompt=1, exploration=0.0, rng=Random(0))


def test_estimates_need_observations_and_positive_weights() -> None:
    with pytest.raises(ValueError, match="no observations"):
        weights.mean([], [])
    with pytest.raises(ValueError, match="above 0"):
        weights.mean([1.0, 0.0], [1.0, 0.0])
    equal = weights.mean([1.0, 0.0, 1.0, 1.0], [2.0] * 4)
    assert (equal.value, equal.effective) == (0.75, 4.0)
