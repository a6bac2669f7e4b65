"""Win rate of one set of answers against another on the same prompts, with an interval that respects prompts."""

import itertools
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


def distinct_2_ratio(texts: Sequence[str], baseline: Sequence[str]) -> float:
    """Distinct-2 of ``texts`` over that of ``baseline``: below 1, the answers have become more alike.

    Distinct-2 is the share of different word pairs among all word pairs (Li et al., arXiv:1510.03055). It falls with
    the amount of text, so both sides are cut to the same number of word pairs first. Give the texts in an order that
    takes turns among prompts, so that the cut leaves every prompt in.

    Raises:
        ValueError: a side has no two words in a row.
    """
    mine, theirs = _word_pairs(texts), _word_pairs(baseline)
    count = min(len(mine), len(theirs))
    if count == 0:
        raise ValueError(f"no word pairs to compare: {len(mine)} against {len(theirs)}")
    return len(set(mine[:count])) / len(set(theirs[:count]))


def _word_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    words = [text.lower().split() for text in texts]
    return [pair for line in words for pair in itertools.pairwise(line)]
