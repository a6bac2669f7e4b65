"""Do intervals hold what they say? Made-up crews and gates whose truth is known, as often as it takes to tell.

Bounds are the nominal rate with four standard errors of the simulation's own.
"""

from uuid import UUID

import numpy as np
import pytest

from app.insights import winrates
from app.reviewers import clusters, statistics
from app.rounds.blind import interval


def choices(pairs: int, votes: int, alike: float, rng: np.random.Generator) -> np.ndarray:
    """(pairs, votes) 0 or 1. Whoever sees a pair says 1 with its probability, drawn from Beta(alike, alike): the
    smaller, the more the pairs differ."""
    return (rng.random((pairs, votes)) < rng.beta(alike, alike, pairs)[:, None]).astype(np.int64)


def agreement(alike: float) -> float:
    """How often two people say the same: E[p² + (1 − p)²] = 1 − 2·E[p(1 − p)] under Beta(alike, alike)."""
    return 1.0 - alike / (2 * alike + 1)


@pytest.mark.parametrize(
    ("pairs", "votes", "alike"),
    [(200, 2, 1.0), (200, 3, 1.0), (100, 5, 1.0), (60, 10, 1.0), (8, 4, 1.0), (200, 3, 0.3)],
)
def test_the_interval_of_agreement_holds_it(pairs: int, votes: int, alike: float) -> None:
    rng, held, times = np.random.default_rng([pairs, votes]), 0, 600
    for _ in range(times):
        said = choices(pairs, votes, alike, rng).sum(axis=1)
        twos = votes * (votes - 1) // 2
        same = (said * (said - 1) + (votes - said) * (votes - said - 1)) // 2
        found = statistics.share(int(same.sum()), pairs * twos, clusters.worth(same, np.full(pairs, twos)))
        held += found.low <= agreement(alike) <= found.high
    assert held / times > 0.95 - 4 * (0.95 * 0.05 / times) ** 0.5


def test_the_interval_of_kappa_holds_it() -> None:
    """One reviewer beside four others on each pair; of an even choice κ is 2·agreement − 1."""
    rng, held, times = np.random.default_rng(4), 0, 120
    for _ in range(times):
        said = choices(80, 5, 1.0, rng)
        others = np.stack([(said[:, 1:] == category).sum(axis=1) for category in range(3)], axis=1)
        found = statistics._cohen(said[:, 0], others, rng)
        held += found.low <= 2 * agreement(1.0) - 1 <= found.high
    assert held / times > 0.95 - 4 * (0.95 * 0.05 / times) ** 0.5


@pytest.mark.parametrize(("comparisons", "prompts"), [(40, 40), (40, 20), (40, 10), (100, 10), (100, 5), (40, 3)])
def test_the_gate_passes_hardly_anything_that_is_at_its_bound(comparisons: int, prompts: int) -> None:
    """Versions that win exactly what is asked for, on prompts that differ as much as they can. The lower end of a 95 %
    interval should lie above the truth in 2.5 of 100 gates at most: 2,000 gates each."""
    rng, bound, passed, times = np.random.default_rng([comparisons, prompts]), 0.4, 0, 2000
    ids = [UUID(int=place % prompts) for place in range(comparisons)]
    for _ in range(times):
        wins = rng.beta(bound, 1 - bound, prompts)[np.arange(comparisons) % prompts]
        found = interval((rng.random(comparisons) < wins).astype(float).tolist(), ids)
        passed += found[1] >= bound
    assert passed / times < 0.025 + 4 * (0.025 * 0.975 / times) ** 0.5


def test_the_interval_of_a_win_rate_holds_it_where_prompts_repeat_and_pairs_are_weighed() -> None:
    """Twelve prompts, five pairs each; every other pair was chosen by a strategy a third as often."""
    rng, held, times = np.random.default_rng(8), 0, 600
    prompts = [UUID(int=place % 12) for place in range(60)]
    drawn = [1.0 if place // 12 % 2 else 3.0 for place in range(60)]
    for _ in range(times):
        wins = rng.beta(1.2, 0.8, 12)[np.arange(60) % 12]
        found = winrates._rate(2, 1, (rng.random(60) < wins).astype(float).tolist(), drawn, prompts)
        held += found.low <= 0.6 <= found.high
    assert held / times > 0.95 - 4 * (0.95 * 0.05 / times) ** 0.5
