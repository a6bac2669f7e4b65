"""Whether people still want what they wanted: disagreement on pairs that were judged twice, by the time in between.

Two votes on the same two answers are compared, by one reviewer (repeats) and by different ones. Some disagreement is
there at any distance: people differ, and are not sure. What is more after a month than within a week is drift.

Twos of votes on one pair resemble each other, and most of them share a vote with others: intervals and test take them
for what they are worth, the pairs of answers being the clusters (after J. N. K. Rao, A. J. Scott, Annals of Statistics
12, 1984).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project
from app.reviewers import queries
from app.reviewers.clusters import worth
from app.reviewers.records import Judgements
from app.reviewers.statistics import Share, among, by_pair, categories

DAY = 86_400.0
GAPS_DAYS = ((0.0, 1.0), (1.0, 7.0), (7.0, 30.0), (30.0, 90.0), (90.0, float("inf")))
"""Distances of two votes, from … to, in days."""
RECENT_DAYS = 7.0
AGO_DAYS = 30.0
_MOST_OF_A_PAIR = 60
"""Votes on one pair of answers that are compared with each other, evenly spread: gold pairs may have thousands."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Votes so far apart."""

    from_days: float
    to_days: float
    same: Share | None
    """Twos of votes that disagree, by one reviewer."""
    others: Share | None
    """The same, by different reviewers."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Today's votes against last month's."""

    recent: Share | None
    """Disagreement of votes of the last ``RECENT_DAYS`` with votes that are at least ``AGO_DAYS`` older."""
    usual: Share | None
    """Disagreement of votes that are at most ``RECENT_DAYS`` apart: what there is without drift."""
    p: float | None
    """Of Fisher's exact test that the first is not larger, over what they are worth; null without both."""

    @property
    def drifted(self) -> bool:
        """More disagreement than chance would bring."""
        return self.p is not None and self.p < 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """A project's drift."""

    same: Shift
    others: Shift
    gaps: list[Gap]


def drift(db: Session, project: Project, *, now: float | None = None) -> Drift:
    """The report of a project. ``now``: seconds since the epoch."""
    return measure(queries.judgements(db, project), now=utcnow().timestamp() if now is None else now)


def measure(judgements: Judgements, *, now: float) -> Drift:
    """Compare every two votes on the same answers."""
    twos = _twos(judgements)
    same = twos.same
    gaps = [
        Gap(low, high, _share(twos, within & same), _share(twos, within & ~same))
        for low, high in GAPS_DAYS
        for within in [(twos.gap >= low * DAY) & (twos.gap < high * DAY)]
    ]
    fresh = twos.later >= now - RECENT_DAYS * DAY
    recent, usual = fresh & (twos.gap >= AGO_DAYS * DAY), twos.gap <= RECENT_DAYS * DAY
    return Drift(
        same=_shift(twos, recent & same, usual & same),
        others=_shift(twos, recent & ~same, usual & ~same),
        gaps=gaps,
    )


@dataclass(frozen=True, slots=True)
class _Twos:
    """(N,) each: two votes on one pair of answers."""

    pair: NDArray[np.int64]
    differ: NDArray[np.bool_]
    same: NDArray[np.bool_]
    """By one reviewer."""
    gap: NDArray[np.float64]
    """Seconds between them."""
    later: NDArray[np.float64]
    """When the later one was given."""


def _twos(judgements: Judgements) -> _Twos:
    order = np.argsort(judgements.pair, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(judgements.pair[order])) + 1) if len(order) else []
    first, second = [], []
    for block in blocks:
        few = min(len(block), _MOST_OF_A_PAIR)
        spread = block[np.linspace(0, len(block) - 1, few).round().astype(np.int64)]
        left, right = np.triu_indices(few, k=1)
        first.append(spread[left])
        second.append(spread[right])
    i, j = _joined(first), _joined(second)
    said, at = categories(judgements.choice), judgements.at
    return _Twos(
        pair=judgements.pair[i],
        differ=said[i] != said[j],
        same=judgements.reviewer[i] == judgements.reviewer[j],
        gap=np.abs(at[i] - at[j]),
        later=np.maximum(at[i], at[j]),
    )


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _share(twos: _Twos, use: NDArray[np.bool_]) -> Share | None:
    return among(twos.differ[use], twos.pair[use])


def _shift(twos: _Twos, recent: NDArray[np.bool_], usual: NDArray[np.bool_]) -> Shift:
    shares = [_share(twos, use) for use in (recent, usual)]
    if shares[0] is None or shares[1] is None:
        return Shift(shares[0], shares[1], None)
    table = []
    for use in (recent, usual):
        hits, sizes = by_pair(twos.differ[use], twos.pair[use])
        count = round(worth(hits, sizes))
        differ = round(float(hits.sum()) / float(sizes.sum()) * count)
        table.append([differ, count - differ])
    return Shift(shares[0], shares[1], float(fisher_exact(table, alternative="greater").pvalue))
