"""What each strategy wants, on pools small enough to see it."""

from random import Random
from uuid import UUID

import numpy as np
import pytest

from tests.unit.refill.made import answer, pair
from worker.refill.strategies import Diversity, Information, Option, Uncertainty
from worker.refill.strategies.features import answer_features, hashed, prompt_features
from worker.refill.strategies.history import Judged
from worker.refill.strategies.posterior import Posterior, entropy_bits, sigmoid
from worker.refill.strategies.uncertainty import binary_entropy, entropy_of


def test_uncertainty_takes_the_smallest_margins_first() -> None:
    options = [
        pair(number, answer("a", reward=2.0 + margin), answer("b", reward=2.0))
        for number, margin in enumerate([3.0, 0.1, -0.5, -6.0])
    ]
    best = Uncertainty().best(options, 3, 1, Random(0))
    assert [index for index, _ in best] == [1, 2, 0]
    assert best[0][1] == pytest.approx(binary_entropy(1 / (1 + np.exp(-0.1))))


def test_uncertainty_without_rewards_is_a_draw() -> None:
    options = [pair(number, answer("a"), answer("b")) for number in range(6)]
    firsts = {Uncertainty().best(options, 1, 1, Random(seed))[0][0] for seed in range(60)}
    assert firsts == set(range(6))
    assert entropy_of(options[0]) == 1.0


def test_of_one_prompt_no_more_are_taken_than_are_wanted() -> None:
    answers = [answer(text, reward=reward) for text, reward in (("a", 0.0), ("b", 0.01), ("c", 0.02))]
    options = [Option(UUID(int=1), "", two) for two in ((answers[0], answers[1]), (answers[1], answers[2]))]
    options.append(pair(2, answer("x", reward=0.0), answer("y", reward=4.0)))
    assert {options[index].prompt_id for index, _ in Uncertainty().best(options, 2, 1, Random(0))} == {
        UUID(int=1),
        UUID(int=2),
    }


def test_diversity_takes_prompts_unlike_those_compared_and_each_other() -> None:
    texts = ["how do I bake bread", "how do I bake good bread", "what does a mortgage cost", "why do cats purr"]
    options = [pair(number, answer("a"), answer("b"), text) for number, text in enumerate(texts)]
    taken = [index for index, _ in Diversity(["how can I bake bread"]).best(options, 3, 1, Random(0))]
    assert set(taken[:2]) == {2, 3}
    assert taken[2] in (0, 1)
    fresh = [index for index, _ in Diversity([]).best(options, 3, 1, Random(1))]
    assert not {0, 1} <= set(fresh), "of two prompts that are alike one is enough"


def test_information_is_greatest_where_votes_have_said_nothing_yet() -> None:
    """Votes so far: bread beats stones, always. Another such pair tells little; one about songs tells much."""
    judged = [Judged(answer("bread bread"), answer("stone stone"), 1.0) for _ in range(30)]
    options = [pair(1, answer("bread bread"), answer("stone stone")), pair(2, answer("a song"), answer("the rain"))]
    (index, bits), *_ = Information(judged).best(options, 1, 1, Random(0))
    assert index == 1
    assert 0 < bits < 1


def test_information_does_not_ask_the_same_twice() -> None:
    alike = [pair(number, answer("a song"), answer("the rain")) for number in (1, 2)]
    other = pair(3, answer("some tea"), answer("old boats"))
    taken = [index for index, _ in Information([]).best([*alike, other], 2, 1, Random(0))]
    assert 2 in taken


def test_the_posterior_is_the_minimum_of_what_it_should_minimise() -> None:
    """One weight, two wins for a difference of 1: d/dw [w²/2 − 2 log σ(w)] = w − 2σ(−w) = 0, at w = 0.6748."""
    posterior = Posterior.fit(np.ones((2, 1)), np.ones(2))
    assert posterior.mean[0] == pytest.approx(2 * float(sigmoid(-posterior.mean)[0]), abs=1e-9)
    assert posterior.mean[0] == pytest.approx(0.6748, abs=1e-4)
    chance = float(sigmoid(posterior.mean)[0])
    assert posterior.covariance[0, 0] == pytest.approx(1 / (1 + 2 * chance * (1 - chance)))


def test_expected_information_is_the_mutual_information_of_outcome_and_weights() -> None:
    """Against the definition on a fine grid of one weight; and a weight that is known tells nothing."""
    grid = np.linspace(-30, 30, 60_001)
    for mean, variance in ((0.0, 0.5), (0.0, 4.0), (1.0, 1.0), (-2.0, 3.0)):
        mass = np.exp(-((grid - mean) ** 2) / (2 * variance))
        chances, mass = sigmoid(grid), mass / mass.sum()
        exact = float(entropy_bits(np.array([chances @ mass]))[0] - entropy_bits(chances) @ mass)
        posterior = Posterior(np.array([mean]), np.array([[variance]]))
        assert float(posterior.information(np.ones((1, 1)))[0]) == pytest.approx(exact, rel=1e-3)
    assert float(Posterior(np.zeros(1), np.zeros((1, 1))).information(np.ones((1, 1)))[0]) == pytest.approx(0, abs=1e-9)


def test_what_is_judged_narrows_the_spread_in_its_direction_only() -> None:
    before = Posterior(np.zeros(2), np.eye(2))
    after = before.after(np.array([1.0, 0.0]))
    assert after.covariance[0, 0] == pytest.approx(1 / (1 + 0.25))
    assert after.covariance[1, 1] == 1.0


def test_features_are_the_same_everywhere_and_of_one_size() -> None:
    """The places are CRC-32 of the words, so they are pinned here: a change would make old fits meaningless."""
    assert np.flatnonzero(hashed(["tea", "boat"], 96)).tolist() == [57, 69]
    assert np.linalg.norm(prompt_features("how do I bake bread")) == pytest.approx(1.0)
    assert not prompt_features("").any()
    assert np.abs(answer_features(answer("word " * 400, reward=50.0))).max() < 3
