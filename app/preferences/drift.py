"""Whether people still want what they wanted: disagreement on pairs that were judged twice, by the time in between.

Two votes on the same two answers are compared, by one reviewer (repeats) and by different ones. Some disagreement is
there at any distance: people differ, and are not sure. What is more after a month than within a week is drift.
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
from app.reviewers.records import Judgements
from app.reviewers.statistics import Share, categories, share

DAY = 86_400.0
GAPS_DAYS = ((0.0, 1.0), (1.0, 7.0), (7.0, 30.0), (30.0, 90.0), (90.0, float("inf")))
"""Distances of two votes, from … to, in days."""
RECENT_DAYS = 7.0
AGO_DAYS = 30.0
_MOST_OF_A_PAIR = 60
"""Votes on one pair of answers that are compared with each other, the latest ones: gold pairs may have thousands."""


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
    """Of Fisher's exact test that the first is not larger; null without both."""

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
    differ, same = twos.differ, twos.same
    gaps = [
        Gap(low, high, _share(differ, within & same), _share(differ, within & ~same))
        for low, high in GAPS_DAYS
        for within in [(twos.gap >= low * DAY) & (twos.gap < high * DAY)]
    ]
    fresh = twos.later >= now - RECENT_DAYS * DAY
    recent, usual = fresh & (twos.gap >= AGO_DAYS * DAY), twos.gap <= RECENT_DAYS * DAY
    return Drift(
        same=_shift(_share(differ, recent & same), _share(differ, usual & same)),
        others=_shift(_share(differ, recent & ~same), _share(differ, usual & ~same)),
        gaps=gaps,
    )


@dataclass(frozen=True, slots=True)
class _Twos:
    """(N,) each: two votes on one pair of answers."""

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
        latest = block[-_MOST_OF_A_PAIR:]
        left, right = np.triu_indices(len(latest), k=1)
        first.append(latest[left])
        second.append(latest[right])
    i, j = _joined(first), _joined(second)
    said, at = categories(judgements.choice), judgements.at
    return _Twos(
        differ=said[i] != said[j],
        same=judgements.reviewer[i] == judgements.reviewer[j],
        gap=np.abs(at[i] - at[j]),
        later=np.maximum(at[i], at[j]),
    )


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _share(differ: NDArray[np.bool_], use: NDArray[np.bool_]) -> Share | None:
    return share(int(differ[use].sum()), int(use.sum()))


def _shift(recent: Share | None, usual: Share | None) -> Shift:
    if recent is None or usual is None:
        return Shift(recent, usual, None)
    table = [[recent.hits, recent.total - recent.hits], [usual.hits, usual.total - usual.hits]]
    return Shift(recent, usual, float(fisher_exact(table, alternative="greater").pvalue))
