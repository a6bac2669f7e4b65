"""Small made-up crews whose figures can be worked out by hand."""

from collections.abc import Sequence

import numpy as np

from app.reviewers.records import UNKNOWN, Judgements

CHOICES = {"a": 0, "b": 1, "tie": 2, "both_bad": 3}


def judgements(
    rows: Sequence[tuple[int, int, str]],
    *,
    left: Sequence[str] | None = None,
    gold: dict[int, str] | None = None,
    repeat_of: dict[int, int] | None = None,
    seconds: Sequence[float] | None = None,
    lengths: tuple[int, int] = (100, 100),
    reviewers: int | None = None,
) -> Judgements:
    """Rows are (reviewer, pair, choice); ``gold`` names pairs whose answer is known, ``repeat_of`` rows by row."""
    count = len(rows)
    known = [CHOICES[(gold or {})[pair]] if pair in (gold or {}) else UNKNOWN for _, pair, _ in rows]
    return Judgements(
        reviewer=np.array([row[0] for row in rows], dtype=np.int64),
        pair=np.array([row[1] for row in rows], dtype=np.int64),
        choice=np.array([CHOICES[row[2]] for row in rows], dtype=np.int64),
        left=np.array([CHOICES[side] for side in left or ["a"] * count], dtype=np.int64),
        gold=np.array(known, dtype=np.int64),
        attention=np.zeros(count, dtype=bool),
        repeat_of=np.array([(repeat_of or {}).get(row, UNKNOWN) for row in range(count)], dtype=np.int64),
        seconds=np.array(seconds if seconds is not None else [np.nan] * count, dtype=float),
        length_a=np.full(count, lengths[0]),
        length_b=np.full(count, lengths[1]),
        at=np.arange(count, dtype=float),
        reviewers=range(reviewers or 1 + max(row[0] for row in rows)),
    )


def honest_crew(
    size: int, pairs: int, rng: np.random.Generator, *, accuracy: float = 0.8, overlap: int = 3
) -> list[tuple[int, int, str]]:
    """Each pair judged by ``overlap`` of the crew, each right with the same probability; side a is the better one."""
    rows: list[tuple[int, int, str]] = []
    for pair in range(pairs):
        who = rng.permutation(size)[:overlap]
        rows += [(int(reviewer), pair, "a" if rng.random() < accuracy else "b") for reviewer in who]
    return rows
