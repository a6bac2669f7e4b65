"""Weighting votes back to pairs drawn evenly, when a strategy chose which pairs people saw.

Every comparison keeps the probability pi with which it was chosen and its importance 1 / (m pi), m being the pairs
that its prompt could have given. Over the strategy's draws

    E[ sum over chosen of importance_i * y_i ]  =  sum over prompts of the mean of y over the prompt's pairs

whatever the strategy wants (Horvitz and Thompson 1952): a sum over importance-weighted votes, the score equations of a
weighted Bradley-Terry fit among them, estimates without bias what an even draw would have given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float
    effective: float
    """Evenly drawn observations that would tell as much: (sum w)^2 / sum w^2 (Kish)."""


def total(values: Sequence[float], importances: Sequence[float]) -> float:
    """The Horvitz-Thompson estimate of the sum of ``values`` over all prompts; exactly unbiased."""
    return math.fsum(weight * value for weight, value in zip(importances, values, strict=True))


def mean(values: Sequence[float], importances: Sequence[float]) -> Estimate:
    """The mean over prompts and pairs drawn evenly, as the ratio of two unbiased totals (Hajek 1971).

    Better than the total over a known number of prompts, whose spread is that of the weights; its bias falls with the
    number of observations, and is none where all weights are equal. The interval is normal, by linearisation.

    Raises:
        ValueError: nothing was observed, or a weight is not above 0.
    """
    if not values:
        raise ValueError("no observations to take a mean of")
    if any(weight <= 0 for weight in importances):
        raise ValueError(f"weights must be above 0, the smallest is {min(importances):g}")
    whole = math.fsum(importances)
    middle = total(values, importances) / whole
    squares = math.fsum(weight**2 for weight in importances)
    residuals = math.fsum((weight * (value - middle)) ** 2 for weight, value in zip(importances, values, strict=True))
    count = len(values)
    small = count / (count - 1) if count > 1 else math.inf
    half = _Z95 * math.sqrt(residuals * small) / whole if residuals else 0.0
    return Estimate(middle, middle - half, middle + half, whole**2 / squares)
