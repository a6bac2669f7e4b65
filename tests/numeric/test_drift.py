"""The drift report on made-up projects: it is silent where people only differ, and speaks where they changed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.preferences.collecting import age_weight
from app.preferences.drift import DAY, measure
from app.reviewers.records import UNKNOWN, Judgements

DAYS = 90.0
CHANGED = 60.0
"""The day from which on people want something else, where they do."""


def project(
    rng: np.random.Generator,
    *,
    work: int,
    overlap: int,
    within_days: float,
    gold: int = 0,
    reviewers: int = 20,
    repeats: int = 0,
    change: float = 0.0,
) -> Judgements:
    """Ninety days of votes.

    Args:
        overlap: votes on each of the ``work`` pairs, over ``within_days`` on average.
        gold: pairs that everybody judges, some time.
        repeats: pairs given again to the same person, half of them within days, half after a month and more.
        change: share of pairs that everybody sees the other way round from day ``CHANGED`` on.
    """
    wants_b = rng.beta(1.0, 1.0, work + gold)
    flips = rng.random(work + gold) < change
    rows: list[tuple[float, int, int, int]] = []  # day, reviewer, pair, place of the earlier one

    for pair in range(work):
        first = rng.uniform(0, DAYS)
        days = np.minimum(DAYS, first + rng.exponential(within_days, overlap)).tolist()
        rows += [(day, who, pair, UNKNOWN) for day, who in zip(days, rng.permutation(reviewers).tolist(), strict=False)]
    rows += [(rng.uniform(0, DAYS), who, work + pair, UNKNOWN) for pair in range(gold) for who in range(reviewers)]
    for place in rng.permutation(work * overlap)[:repeats].tolist():
        day, who, pair, _ = rows[place]
        day += rng.uniform(0.2, 5) if rng.random() < 0.5 else rng.uniform(31, 60)
        if day <= DAYS:
            rows.append((day, who, pair, place))
    order = sorted(range(len(rows)), key=lambda place: rows[place][0])
    place_of = {place: row for row, place in enumerate(order)}
    day, who, pair, earlier = (np.array(column) for column in zip(*(rows[place] for place in order), strict=True))
    said_b = rng.random(len(rows)) < np.where(flips[pair] & (day >= CHANGED), 1 - wants_b[pair], wants_b[pair])
    count = len(rows)
    return Judgements(
        reviewer=who,
        pair=pair,
        choice=said_b.astype(np.int64),
        left=np.zeros(count, dtype=np.int64),
        gold=np.full(count, UNKNOWN),
        attention=np.zeros(count, dtype=bool),
        repeat_of=np.array([UNKNOWN if place == UNKNOWN else place_of[place] for place in earlier.tolist()]),
        seconds=np.full(count, np.nan),
        length_a=np.zeros(count, dtype=np.int64),
        length_b=np.zeros(count, dtype=np.int64),
        at=day * DAY,
        reviewers=range(reviewers),
    )


@pytest.mark.parametrize(
    "made",
    [
        {"work": 300, "overlap": 3, "within_days": 10.0, "repeats": 200},
        {"work": 300, "overlap": 3, "within_days": 10.0, "gold": 20, "reviewers": 60},
        {"work": 150, "overlap": 8, "within_days": 30.0},
    ],
    ids=["three votes a pair", "gold that everybody judges", "eight votes a pair"],
)
def test_people_who_only_differ_do_not_drift(made: dict[str, float]) -> None:
    """One look in twenty may say so by chance; four standard errors of 100 looks are added."""
    rng, looks = np.random.default_rng(2), 100
    said = [measure(project(rng, **made), now=DAYS * DAY) for _ in range(looks)]  # type: ignore[arg-type]
    bound = 0.05 + 4 * (0.05 * 0.95 / looks) ** 0.5
    assert sum(found.others.drifted for found in said) / looks < bound
    assert sum(found.same.drifted for found in said) / looks < bound


def test_a_change_of_taste_is_found_in_repeats_and_between_people() -> None:
    """Four pairs in five are seen the other way round since a month: nearly every look says so, of 40 repeats and of
    300 twos of people."""
    rng, looks = np.random.default_rng(3), 20
    made = {"work": 600, "overlap": 3, "within_days": 25.0, "repeats": 1200, "change": 0.8}
    said = [measure(project(rng, **made), now=DAYS * DAY) for _ in range(looks)]  # type: ignore[arg-type]
    assert sum(found.same.drifted for found in said) >= 14, "forty repeats see it in 18 looks of 20"
    assert sum(found.others.drifted for found in said) >= 17


def test_gold_with_many_votes_of_this_week_still_shows_what_was_said_before() -> None:
    """A hundred people judged the pair a quarter ago and said a, a hundred in the last days, who say b."""
    rng = np.random.default_rng(4)
    made = project(rng, work=0, overlap=0, within_days=0, gold=1, reviewers=200)
    late = np.arange(200) >= 100
    made.at[:] = np.where(late, 89.0, 1.0) * DAY
    made.choice[:] = late
    found = measure(made, now=DAYS * DAY)
    assert found.others.recent is not None
    assert (found.others.recent.hits, found.others.recent.total) == (900, 900), "thirty of each are compared"
    assert not found.others.drifted, "one pair alone is no drift"


def test_a_half_life_lets_a_change_of_taste_through() -> None:
    """Votes come evenly over ninety days, and the last thirty say b instead of a. Each alone, b has 1/3 of the weight;
    with a half-life of h days (1 − 2^(−30/h)) / (1 − 2^(−90/h)), 0.762 for fifteen days."""
    now = datetime(2026, 6, 1, tzinfo=UTC)
    days = np.arange(0.5, DAYS)
    weight = np.array([age_weight(now - timedelta(days=day), now, 15.0) for day in days.tolist()])
    assert float(weight[days < 30].sum() / weight.sum()) == pytest.approx((1 - 2**-2) / (1 - 2**-6), abs=1e-3)
