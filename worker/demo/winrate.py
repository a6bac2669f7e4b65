"""Win rate of one set of answers against another on the same prompts, with an interval that respects prompts."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class WinRate:
    """Share of wins, ties counted as half, with a 95 % interval."""

    win_rate: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Rounded to four digits, for reports."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def win_rate(
    answers: Sequence[Sequence[str]],
    baseline: Sequence[Sequence[str]],
    score: Callable[[str], float],
    rng: np.random.Generator,
) -> WinRate:
    """How often ``answers`` beat ``baseline`` by ``score``.

    Both hold, per prompt, some sampled texts; every answer meets every baseline answer of its prompt, and a prompt's
    share of wins is one observation. The interval resamples prompts (bootstrap, percentile, 95 %): answers to the
    same prompt are not independent, prompts are.

    Args:
        answers: per prompt, the texts of the version in question.
        baseline: per prompt, the texts it is compared with; as many prompts.
        score: what the hidden preference thinks of a text; higher is better.
        rng: source of the bootstrap's randomness.

    Raises:
        ValueError: no prompts, different numbers of prompts, or a prompt without answers.
    """
    if len(answers) != len(baseline) or not answers:
        raise ValueError(f"{len(answers)} prompts with answers against {len(baseline)} with baseline answers")
    shares = np.array([_share(mine, theirs, score) for mine, theirs in zip(answers, baseline, strict=True)])
    if len(shares) == 1 or np.ptp(shares) == 0.0:
        # Nothing to resample: fall back on the binomial interval over prompts (Wilson), which stays honest at 0 and 1.
        interval = stats.binomtest(round(shares.mean() * len(shares)), len(shares)).proportion_ci(method="wilson")
        return WinRate(float(shares.mean()), float(interval.low), float(interval.high))
    interval = stats.bootstrap(
        (shares,), np.mean, n_resamples=4000, confidence_level=0.95, method="percentile", rng=rng
    ).confidence_interval
    return WinRate(float(shares.mean()), float(interval.low), float(interval.high))


def _share(mine: Sequence[str], theirs: Sequence[str], score: Callable[[str], float]) -> float:
    if not mine or not theirs:
        raise ValueError("a prompt without answers has no win rate")
    difference = np.subtract.outer([score(text) for text in mine], [score(text) for text in theirs])
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def distinct_2_ratio(texts: Sequence[str], baseline: Sequence[str], rng: random.Random) -> float:
    """Distinct-2 of ``texts`` over that of ``baseline``: below 1, the answers have become more alike.

    Distinct-2 is the share of different word pairs among all word pairs (Li et al., arXiv:1510.03055). It falls with
    the amount of text, in all and per prompt, whatever the text says: so of each two answers that stand at the same
    place, the longer one counts with a stretch of the shorter one's length, drawn from ``rng``.

    Args:
        texts: answers, each to the same prompt as the baseline's at its place.
        baseline: as many answers.
        rng: where the stretches begin.

    Raises:
        ValueError: different numbers of answers, or no place where both have two words in a row.
    """
    if len(texts) != len(baseline):
        raise ValueError(f"{len(texts)} answers against {len(baseline)} baseline answers")
    mine: list[tuple[str, str]] = []
    theirs: list[tuple[str, str]] = []
    for text, other in zip(texts, baseline, strict=True):
        a, b = _word_pairs(text), _word_pairs(other)
        count = min(len(a), len(b))
        mine += _stretch(a, count, rng)
        theirs += _stretch(b, count, rng)
    if not mine:
        raise ValueError("no word pairs to compare: an answer of two words or more has met none")
    return len(set(mine)) / len(set(theirs))


def _word_pairs(text: str) -> list[tuple[str, str]]:
    return list(itertools.pairwise(text.lower().split()))


def _stretch(pairs: list[tuple[str, str]], count: int, rng: random.Random) -> list[tuple[str, str]]:
    start = rng.randrange(len(pairs) - count + 1)
    return pairs[start : start + count]
