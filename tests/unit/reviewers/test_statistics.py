"""Figures against values worked out by hand."""

import numpy as np
import pytest

from app.reviewers import clusters, skill, statistics
from tests.unit.reviewers.crews import honest_crew, judgements


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_agreement_with_others_counts_every_two_votes(rng: np.random.Generator) -> None:
    """Pair 0: a a b; pair 1: a a. Reviewer 0 meets 3 other votes, 2 alike. All: 2 of 4 twos on them are alike
    (pair 0: 1 of 3, pair 1: 1 of 1)."""
    found = judgements([(0, 0, "a"), (1, 0, "a"), (2, 0, "b"), (0, 1, "a"), (1, 1, "a")])
    crew = statistics.crew(found, rng)
    assert (crew.agreement.hits, crew.agreement.total) == (2, 4)
    zero, one, two = statistics.each(found, rng)
    assert (zero.with_others.hits, zero.with_others.total) == (2, 3)
    assert (one.with_others.hits, one.with_others.total) == (2, 3)
    assert (two.with_others.hits, two.with_others.total) == (0, 2)


def test_a_share_has_wilsons_interval() -> None:
    """8 of 10 at 95 %: centre (0.8 + z²/20)/(1 + z²/10), z = 1.959964: 0.4902 … 0.9433."""
    found = statistics.share(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)
    assert statistics.share(0, 0) is None


def test_votes_on_one_pair_are_worth_less_than_as_many_on_several(rng: np.random.Generator) -> None:
    """Four pairs: aaa, aaa, aab, aab. 8 of 12 twos are alike, in clusters of 3 of 3, 3, 1, 1: residuals 1, 1, −1, −1.
    Variance (4/12²)·4/3 = 1/27 against (2/3·1/3)/11 of independent ones: deff = 11/6, 12·6/11 = 6.545 observations,
    and with a quantile of 3 degrees of freedom in place of 11, (2.20099/3.18245)² of it: 3.1307.
    Wilson: z² = 3.8415, centre (2/3 + z²/6.2614)/(1 + z²/3.1307) = 0.5749, half 0.3618.
    """
    said = ["aaa", "aaa", "aab", "aab"]
    rows = [(who, pair, choice) for pair, word in enumerate(said) for who, choice in enumerate(word)]
    crew = statistics.crew(judgements(rows), rng)
    assert (crew.agreement.hits, crew.agreement.total) == (8, 12)
    assert clusters.worth(np.array([3, 3, 1, 1]), np.array([3, 3, 3, 3])) == pytest.approx(3.1307, abs=1e-4)
    assert (crew.agreement.low, crew.agreement.high) == pytest.approx((0.2131, 0.9366), abs=2e-4)


def test_what_clusters_are_worth_has_its_bounds() -> None:
    ones = np.ones(8)
    assert clusters.worth(np.array([1, 0] * 4), ones) == pytest.approx(8.0), "one of each: nothing is clustered"
    assert clusters.worth(ones * 3, ones * 3) == 8.0, "all the same: a cluster counts once"
    assert clusters.worth(np.array([5]), np.array([9])) == 1.0
    assert clusters.worth(ones / 2, ones) == 8.0, "ties vary less than the interval expects, and are worth no more"
    assert clusters.worth(np.array([2.0, 0, 2, 0]), np.full(4, 2.0), observations=3.0) <= 3.0
    with pytest.raises(ValueError, match="at least one is needed"):
        clusters.worth(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="each with observations"):
        clusters.worth(np.array([0, 1]), np.array([0, 1]))


def test_alpha_and_fleiss_by_hand(rng: np.random.Generator) -> None:
    """Four pairs, two votes each: aa, bb, ab, aa. Values: a 5, b 3, n = 8. Observed disagreement 1/4 of the pairs;
    expected 1 − (5·4 + 3·2)/(8·7) = 30/56. α = 1 − (1/4)/(30/56) = 1 − 14/30.
    Fleiss: P̄ = 3/4, P_e = (5/8)² + (3/8)² = 34/64, κ = (48 − 34)/(64 − 34) = 14/30."""
    said = ["aa", "bb", "ab", "aa"]
    found = judgements([(who, pair, choices[who]) for pair, choices in enumerate(said) for who in (0, 1)])
    crew = statistics.crew(found, rng)
    assert crew.alpha.value == pytest.approx(16 / 30)
    assert crew.fleiss.value == pytest.approx(14 / 30)
    zero, _ = statistics.each(found, rng)
    # Cohen: po = 3/4; marginals a: 3/4 and 1/2 → pe = 3/8 + 1/8 = 1/2; κ = 1/2
    assert zero.kappa.value == pytest.approx(0.5)
    assert zero.kappa.low is None, "four pairs are too few to resample"


def test_ties_and_both_bad_are_one_category_and_no_side(rng: np.random.Generator) -> None:
    found = judgements([(0, 0, "tie"), (1, 0, "both_bad"), (0, 1, "a"), (1, 1, "tie")])
    crew = statistics.crew(found, rng)
    assert (crew.agreement.hits, crew.agreement.total) == (1, 2)
    assert (crew.ties.hits, crew.ties.total) == (3, 4)
    assert crew.left.share.total == 1


def test_sides_lengths_and_time(rng: np.random.Generator) -> None:
    """Ten preferences, nine on the left: p = 2·(1 + 10)/2¹⁰."""
    rows = [(0, pair, "a") for pair in range(10)]
    found = judgements(rows, left=["a"] * 9 + ["b"], seconds=[*range(1, 10), np.nan], lengths=(50, 80))
    (one,) = statistics.each(found, rng)
    assert (one.left.share.hits, one.left.share.total) == (9, 10)
    assert one.left.p == pytest.approx(2 * 11 / 1024)
    assert (one.longer.share.hits, one.longer.share.total) == (0, 10)
    assert (one.seconds.value, one.seconds.total) == (5.0, 9)


def test_gold_and_repeats_stand_apart_from_work(rng: np.random.Generator) -> None:
    rows = [(0, 0, "a"), (1, 0, "b"), (0, 1, "a"), (0, 2, "b"), (0, 0, "a"), (1, 0, "a")]
    found = judgements(rows, gold={1: "a", 2: "a"}, repeat_of={4: 0, 5: 1})
    zero, one = statistics.each(found, rng)
    assert (zero.gold.hits, zero.gold.total) == (1, 2)
    assert one.gold is None
    assert (zero.with_self.hits, zero.with_self.total) == (1, 1)
    assert (one.with_self.hits, one.with_self.total) == (0, 1)
    assert (zero.with_others.hits, zero.with_others.total) == (0, 1)


def test_skill_orders_reviewers_and_weighs_a_coin_as_nothing() -> None:
    rng = np.random.default_rng(3)
    rows = honest_crew(12, 400, rng, accuracy=0.85)
    sides = ("a", "b")
    flipped = [(who, pair, sides[int(rng.integers(2))] if who == 0 else choice) for who, pair, choice in rows]
    worse = [(who, pair, "b" if who == 1 and rng.random() < 0.2 else choice) for who, pair, choice in flipped]
    estimated = skill.estimate(judgements(worse))
    assert estimated.accuracy[0] < 0.6
    assert estimated.accuracy[0] < estimated.accuracy[1] < estimated.accuracy[2:].mean()
    assert estimated.accuracy[2:].mean() == pytest.approx(0.85, abs=0.04)
    weights = estimated.weights()
    assert weights[0] < 0.35
    assert (weights * estimated.votes).sum() / estimated.votes.sum() == pytest.approx(1.0)


def test_gold_anchors_skill_where_the_many_are_wrong() -> None:
    """Three who always agree with each other and are always wrong on gold weigh less than one who is right there."""
    rows = [(who, pair, "b") for who in (0, 1, 2) for pair in range(40)]
    rows += [(3, pair, "a") for pair in range(40)]
    anchored = skill.estimate(judgements(rows, gold=dict.fromkeys(range(20), "a")))
    assert anchored.accuracy[3] > 0.8
    assert (anchored.accuracy[:3] < 0.5).all()


def test_nothing_at_all_gives_even_weights() -> None:
    estimated = skill.estimate(judgements([(0, 0, "tie")]))
    assert estimated.weights() == pytest.approx([1.0])
