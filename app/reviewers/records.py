"""A project's judgements as arrays: what the statistics of this room read, whether from Postgres or a simulation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

A, B, TIE, BOTH_BAD = 0, 1, 2, 3
"""Values of ``choice``; of the pair's own sides."""

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Judgements:
    """One row for each reviewer's latest word on a pair: (V,) each, in the order in which they were given."""

    reviewer: Ints
    """Index into ``reviewers``."""
    pair: Ints
    """0 … pairs − 1. A repeat has the number of the pair it repeats; a gold pair is one for all who were given it."""
    choice: Ints
    left: Ints
    """What stood on the left: ``A`` or ``B``."""
    gold: Ints
    """The known answer, ``A`` or ``B``; ``UNKNOWN`` for work and repeats."""
    attention: Bools
    """The known answer is one that everybody sees."""
    repeat_of: Ints
    """Row of the same reviewer's earlier judgement of this pair; ``UNKNOWN`` where it is the first."""
    seconds: Floats
    """From showing to choosing; NaN where nobody measured."""
    length_a: Ints
    """Characters of the pair's first answer."""
    length_b: Ints
    at: Floats
    """When, in seconds since the epoch."""
    reviewers: Sequence[Any]
    """Who: whatever names a reviewer."""
    settled: Ints | None = None
    """What somebody else decided about the pair, as ``choice`` has it; ``UNKNOWN`` where nobody did, and null where
    nobody did anywhere."""

    def __len__(self) -> int:
        return len(self.reviewer)

    @property
    def decided(self) -> Bools:
        """(V,) One of the sides was preferred."""
        return np.asarray(self.choice <= B)

    @property
    def work(self) -> Bools:
        """(V,) First judgements of pairs without a known answer: what reviewers can agree on."""
        return np.asarray((self.gold == UNKNOWN) & (self.repeat_of == UNKNOWN))

    def rows(self, keep: Bools) -> "Judgements":
        """Only these rows. ``repeat_of`` is lost where the earlier row is not kept."""
        place = np.full(len(self), UNKNOWN, dtype=np.int64)
        place[keep] = np.arange(int(keep.sum()))
        earlier = self.repeat_of[keep]
        return Judgements(
            reviewer=self.reviewer[keep],
            pair=self.pair[keep],
            choice=self.choice[keep],
            left=self.left[keep],
            gold=self.gold[keep],
            attention=self.attention[keep],
            repeat_of=np.where(earlier == UNKNOWN, UNKNOWN, place[earlier]),
            seconds=self.seconds[keep],
            length_a=self.length_a[keep],
            length_b=self.length_b[keep],
            at=self.at[keep],
            reviewers=self.reviewers,
            settled=None if self.settled is None else self.settled[keep],
        )
