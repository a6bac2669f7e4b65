"""What a reviewer's votes show, each figure with an interval: agreement, gold, repeats, sides, lengths, ties, speed.

Krippendorff's α comes from ``krippendorff``, the κs and Wilson's intervals from ``statsmodels``, binomial tests from
``scipy``. Choices are compared as three categories, a, b and neither ('tie' and 'both bad' both say that no side is
better). Intervals are at 95 %. Votes on one pair resemble each other: shares are taken over as many votes as they are
worth (``app.reviewers.clusters``), other figures by resampling pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, bootstrap

from app.reviewers.clusters import worth
from app.reviewers.records import UNKNOWN, A, B, Bools, Ints, Judgements
from app.reviewers.skill import Skill, estimate

CONFIDENCE = 0.95
CATEGORIES = 3
_RESAMPLES = 200

Statistic = Callable[[Ints], float]


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, as a share with its interval (Wilson, over what those of several pairs are worth)."""

    hits: int
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; ``low`` and ``high`` are null where there is too little to resample."""

    value: float
    low: float | None
    high: float | None
    total: int
    """Judgements, or pairs, it rests on."""


@dataclass(frozen=True, slots=True)
class Side:
    """How often preferences fell on the left."""

    share: Share
    p: float
    """Of the exact two-sided binomial test against one half, over as many preferences as those here are worth."""


@dataclass(frozen=True, slots=True)
class ReviewerFigures:
    """One reviewer. A figure is null where nothing can be said."""

    judged: int
    """Pairs judged, checks and repeats included."""
    with_others: Share | None
    """Agreement with other reviewers, over every two votes on a pair of work."""
    kappa: Estimate | None
    """Cohen's κ of the same: agreement beyond what the habits of both would give."""
    alpha: Estimate | None
    """Krippendorff's α (nominal) over the pairs this reviewer shares with others, everybody's votes on them."""
    gold: Share | None
    attention: Share | None
    adjudicated: Share | None
    """Votes on pairs that somebody else settled: those that said what was decided (a, b or neither)."""
    with_self: Share | None
    """Repeated pairs judged alike, sides swapped."""
    left: Side | None
    longer: Side | None
    """How often the longer answer was preferred (its share, and the test against one half)."""
    ties: Share | None
    """'Tie' and 'both bad' among judgements."""
    seconds: Estimate | None
    """Median time of a decision."""
    skill: float
    """Probability that a preference is the better side (one-coin Dawid-Skene), shrunk towards the average."""
    weight: float
    """What a vote is worth where training weighs votes by skill; 1 on average."""


@dataclass(frozen=True, slots=True)
class CrewFigures:
    """The project as a whole."""

    agreement: Share | None
    """Every two votes on one pair of work."""
    alpha: Estimate | None
    fleiss: Estimate | None
    """Fleiss' κ over the pairs that have as many votes as most."""
    left: Side | None
    longer: Side | None
    gold: Share | None
    adjudicated: Share | None
    with_self: Share | None
    ties: Share | None
    seconds: Estimate | None
    judged: int
    reviewers: int


def share(hits: int, total: int, worth: float | None = None) -> Share | None:
    """``hits`` of ``total`` with Wilson's interval; null of nothing.

    Args:
        worth: independent observations that would tell as much; ``total`` by default.
    """
    from statsmodels.stats.proportion import proportion_confint

    if total == 0:
        return None
    count = total if worth is None else worth
    low, high = proportion_confint(hits / total * count, count, alpha=1 - CONFIDENCE, method="wilson")
    return Share(hits, total, hits / total, float(low), float(high))


def among(hit: Bools, pair: Ints) -> Share | None:
    """Share of the votes that ``hit``, (N,), each on its pair, (N,)."""
    return over(*by_pair(hit, pair))


def side(hits: int, total: int, worth: float | None = None) -> Side | None:
    """A share that should be one half; the arguments are those of ``share``."""
    found = share(hits, total, worth)
    if found is None:
        return None
    count = total if worth is None else round(worth)
    return Side(found, float(binomtest(round(hits / total * count), count).pvalue))


def _side_among(hit: Bools, pair: Ints) -> Side | None:
    hits, sizes = by_pair(hit, pair)
    return side(int(hits.sum()), int(sizes.sum()), worth(hits, sizes)) if len(sizes) else None


def over(hits: Ints, sizes: Ints) -> Share | None:
    """Share of clusters that hold (C,) hits of (C,) observations; those without observations say nothing."""
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    return share(int(hits.sum()), int(sizes.sum()), worth(hits, sizes)) if len(sizes) else None


def by_pair(hit: Bools, pair: Ints) -> tuple[Ints, Ints]:
    """(C,) each: hits and votes of every pair there is."""
    _, place, sizes = np.unique(pair, return_inverse=True, return_counts=True)
    return np.bincount(place[hit], minlength=len(sizes)), sizes


def categories(choice: Ints) -> Ints:
    """a, b, or neither."""
    return np.minimum(choice, CATEGORIES - 1)


def crew(judgements: Judgements, rng: np.random.Generator) -> CrewFigures:
    """Figures of everybody together.

    Args:
        rng: for the resamples of intervals.
    """
    table = ratings(judgements, judgements.work)
    votes = table.sum(axis=1)
    pairs_of_votes, alike = _pairs_alike(table)
    everybody = np.ones(len(judgements), dtype=bool)
    return CrewFigures(
        agreement=over(alike, pairs_of_votes),
        alpha=_alpha(table[votes >= 2], rng),
        fleiss=_fleiss(table, rng),
        left=_left(judgements, everybody),
        longer=_longer(judgements, everybody),
        gold=_known(judgements, everybody, attention=False),
        adjudicated=_adjudicated(judgements, everybody),
        with_self=_with_self(judgements, everybody),
        ties=among(~judgements.decided, judgements.pair),
        seconds=_seconds(judgements, everybody, rng),
        judged=len(judgements),
        reviewers=len(np.unique(judgements.reviewer)),
    )


def each(judgements: Judgements, rng: np.random.Generator, skill: Skill | None = None) -> list[ReviewerFigures]:
    """Figures of every reviewer, in the order of ``judgements.reviewers``."""
    skill = skill or estimate(judgements)
    weights = skill.weights()
    table = ratings(judgements, judgements.work)
    found = []
    for number in range(len(judgements.reviewers)):
        mine = judgements.reviewer == number
        own, others = with_others(judgements, mine & judgements.work, table)
        shared = np.unique(judgements.pair[mine & judgements.work])
        shared = shared[table[shared].sum(axis=1) >= 2]
        found.append(
            ReviewerFigures(
                judged=int(mine.sum()),
                with_others=alike(own, others),
                kappa=_cohen(own, others, rng),
                alpha=_alpha(table[shared], rng),
                gold=_known(judgements, mine, attention=False),
                attention=_known(judgements, mine, attention=True),
                adjudicated=_adjudicated(judgements, mine),
                with_self=_with_self(judgements, mine),
                left=_left(judgements, mine),
                longer=_longer(judgements, mine),
                ties=among(~judgements.decided[mine], judgements.pair[mine]),
                seconds=_seconds(judgements, mine, rng),
                skill=float(skill.accuracy[number]),
                weight=float(weights[number]),
            )
        )
    return found


def ratings(judgements: Judgements, use: Bools) -> Ints:
    """(P, 3) How many votes each pair has in each category."""
    pairs = int(judgements.pair.max(initial=-1)) + 1
    flat = judgements.pair[use] * CATEGORIES + categories(judgements.choice[use])
    return np.bincount(flat, minlength=pairs * CATEGORIES).reshape(pairs, CATEGORIES)


def _pairs_alike(table: Ints) -> tuple[Ints, Ints]:
    """(P,) each: twos of votes on a pair, and those that say the same."""
    votes = table.sum(axis=1)
    return votes * (votes - 1) // 2, (table * (table - 1) // 2).sum(axis=1)


def with_others(judgements: Judgements, mine: Bools, table: Ints) -> tuple[Ints, Ints]:
    """Own votes, (N,) categories, beside all others on the same pairs: (N, 3), how many in each category."""
    pair, own = judgements.pair[mine], categories(judgements.choice[mine])
    others = table[pair].copy()
    others[np.arange(len(own)), own] -= 1
    shared = others.sum(axis=1) > 0
    return own[shared], others[shared]


def alike(own: Ints, others: Ints) -> Share | None:
    """Share of every two of the votes that ``with_others`` tells of that say the same."""
    return over(others[np.arange(len(own)), own], others.sum(axis=1))


def _alpha(table: Ints, rng: np.random.Generator) -> Estimate | None:
    """Krippendorff's α of pairs that have two votes or more; its interval by resampling pairs."""
    import krippendorff

    used = table.sum(axis=0) > 0
    if len(table) < 2 or used.sum() < 2:
        return None

    def of(rows: Ints) -> float:
        if (rows.sum(axis=0) > 0).sum() < 2:
            return float("nan")  # everybody said the same: α says nothing
        return float(krippendorff.alpha(value_counts=rows, level_of_measurement="nominal"))

    return _resampled(of, table, rng)


def _fleiss(table: Ints, rng: np.random.Generator) -> Estimate | None:
    """Fleiss' κ, which wants equally many votes on each pair: those with as many as most."""
    from statsmodels.stats.inter_rater import fleiss_kappa

    votes = table.sum(axis=1)
    several = votes[votes >= 2]
    if not len(several):
        return None
    rows = table[votes == np.bincount(several).argmax()]
    if len(rows) < 2 or (rows.sum(axis=0) > 0).sum() < 2:
        return None

    def of(chosen: Ints) -> float:
        if (chosen.sum(axis=0) > 0).sum() < 2:
            return float("nan")
        return float(fleiss_kappa(chosen, method="fleiss"))

    return _resampled(of, rows, rng)


def _cohen(own: Ints, others: Ints, rng: np.random.Generator) -> Estimate | None:
    """Cohen's κ between a reviewer and the others taken as one; its interval by resampling pairs.

    Args:
        own: (N,) the reviewer's category on each pair.
        others: (N, 3) how many of the others said each category.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    tables = np.zeros((len(own), CATEGORIES, CATEGORIES), dtype=np.int64)
    tables[np.arange(len(own)), own] = others

    def of(chosen: Ints) -> float:
        table = chosen.sum(axis=0)
        if ((table.sum(axis=0) + table.sum(axis=1)) > 0).sum() < 2:
            return float("nan")  # everybody said the same: κ says nothing
        return float(cohens_kappa(table, return_results=False))

    if tables.sum() < 2 or not np.isfinite(of(tables)):
        return None
    found = _resampled(of, tables, rng)
    return replace(found, total=int(tables.sum()))


def _resampled(of: Statistic, rows: Ints, rng: np.random.Generator) -> Estimate:
    """A statistic of rows, with the percentile interval of a bootstrap over them."""
    value = of(rows)
    drawn = [of(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(_RESAMPLES)] if len(rows) >= 10 else []
    usable = [x for x in drawn if np.isfinite(x)]
    if len(usable) < _RESAMPLES // 2:
        return Estimate(value, None, None, len(rows))
    low, high = np.quantile(usable, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high), len(rows))


def _known(judgements: Judgements, mine: Bools, *, attention: bool) -> Share | None:
    """Known answers that were found; a tie is none."""
    use = mine & (judgements.gold != UNKNOWN) & (judgements.attention == attention)
    return among(judgements.choice[use] == judgements.gold[use], judgements.pair[use])


def _adjudicated(judgements: Judgements, mine: Bools) -> Share | None:
    if judgements.settled is None:
        return None
    use = mine & judgements.work & (judgements.settled != UNKNOWN)
    same = categories(judgements.choice[use]) == categories(judgements.settled[use])
    return among(same, judgements.pair[use])


def _with_self(judgements: Judgements, mine: Bools) -> Share | None:
    rows = np.flatnonzero(mine & (judgements.repeat_of != UNKNOWN))
    earlier = judgements.repeat_of[rows]
    same = categories(judgements.choice[rows]) == categories(judgements.choice[earlier])
    return among(same, judgements.pair[rows])


def _left(judgements: Judgements, mine: Bools) -> Side | None:
    use = mine & judgements.decided
    return _side_among(judgements.choice[use] == judgements.left[use], judgements.pair[use])


def _longer(judgements: Judgements, mine: Bools) -> Side | None:
    use = mine & judgements.decided & (judgements.length_a != judgements.length_b)
    longer = np.where(judgements.length_a[use] > judgements.length_b[use], A, B)
    return _side_among(judgements.choice[use] == longer, judgements.pair[use])


def _seconds(judgements: Judgements, mine: Bools, rng: np.random.Generator) -> Estimate | None:
    """The median; its interval by scipy's bootstrap (percentile)."""
    measured = judgements.seconds[mine & np.isfinite(judgements.seconds)]
    if not len(measured):
        return None
    value = float(np.median(measured))
    if len(measured) < 10:
        return Estimate(value, None, None, len(measured))
    found = bootstrap(
        (measured,), np.median, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=rng
    )
    return Estimate(value, float(found.confidence_interval.low), float(found.confidence_interval.high), len(measured))
