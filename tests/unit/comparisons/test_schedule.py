"""When checks fall: the share holds over short stretches, and nothing that a reviewer could know tells where."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from app.comparisons import schedule


def handed_out(shares: dict[str, float], pairs: int, seed: int) -> list[str | None]:
    """Kinds of what a reviewer is handed, in order."""
    plan: schedule.Schedule = {}
    rng, kinds = Random(seed), []
    for handed in range(pairs):
        plan = schedule.drawn(plan, shares, handed, rng)
        kind = schedule.due(plan, shares, handed)
        kinds.append(kind)
        if kind:
            plan = schedule.served(plan, kind, handed, rng)
    return kinds


@pytest.mark.parametrize("seed", range(20))
def test_each_share_holds_within_every_hundred_pairs(seed: int) -> None:
    kinds = handed_out({"gold": 5.0, "repeat": 10.0, "attention": 2.0}, 400, seed)
    for start in range(0, 400, 100):
        counts = Counter(kinds[start : start + 100])
        assert 4 <= counts["gold"] <= 6
        assert 8 <= counts["repeat"] <= 12
        assert 1 <= counts["attention"] <= 3


def test_checks_stand_at_no_fixed_distance_and_differ_between_reviewers() -> None:
    places = [[at for at, kind in enumerate(handed_out({"gold": 5.0}, 400, seed)) if kind] for seed in range(30)]
    distances = {b - a for row in places for a, b in pairwise(row)}
    assert len(distances) > 25
    assert len({tuple(row) for row in places}) == 30
    first = Counter(row[0] for row in places)
    assert len(first) > 10


def test_a_share_that_changes_is_drawn_anew_and_one_that_ends_is_dropped() -> None:
    rng = Random(1)
    plan = schedule.drawn({}, {"gold": 5.0, "repeat": 5.0}, 0, rng)
    later = schedule.drawn(plan, {"gold": 50.0}, 40, rng)
    assert set(later) == {"gold"}
    assert 40 <= later["gold"]["at"] < 42
    assert schedule.drawn(later, {"gold": 50.0}, 41, rng) == later


def test_a_check_that_there_was_none_of_is_not_made_up_for() -> None:
    rng = Random(3)
    plan = schedule.drawn({}, {"gold": 10.0}, 0, rng)
    plan = schedule.served(plan, "gold", 200, rng)
    assert 200 <= plan["gold"]["at"] < 210
