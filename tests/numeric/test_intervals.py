"""Do intervals hold what they say? Made-up crews whose truth is known, as often as it takes to tell.

Bounds are the nominal rate with four standard errors of the simulation's own.
"""

import numpy as np
import pytest

from app.reviewers import clusters, statistics


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
