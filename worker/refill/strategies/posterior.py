"""A Bayesian Bradley-Terry model of what people prefer: a linear reward with a Gaussian posterior (Laplace).

P(a over b) = sigma(w . (f(a) - f(b))), w ~ N(0, I / precision). The posterior is approximated by a Gaussian at its
mode, whose covariance is the inverse Hessian; a tie is half a vote each way.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from worker.refill.strategies.features import Vector

PRECISION = 1.0
_STEPS = 25
_SETTLED = 1e-8
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_MASS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is known of the reward's weights."""

    mean: Vector
    """(d,)"""
    covariance: Vector
    """(d, d)"""

    @classmethod
    def fit(cls, differences: Vector, outcomes: Vector, *, precision: float = PRECISION) -> Self:
        """The posterior after some comparisons; the prior when there are none.

        Args:
            differences: (n, d), features of 'a' minus those of 'b'.
            outcomes: (n,), 1 where 'a' won, 0 where 'b' did, 0.5 for a tie.
            precision: of the prior, above 0.
        """
        places = differences.shape[1]
        mean = np.zeros(places)
        hessian = precision * np.eye(places)
        for _ in range(_STEPS):  # Newton; the objective is strictly convex
            chances = sigmoid(differences @ mean)
            gradient = differences.T @ (chances - outcomes) + precision * mean
            hessian = (differences * (chances * (1.0 - chances))[:, None]).T @ differences + precision * np.eye(places)
            step = np.linalg.solve(hessian, gradient)
            mean = mean - step / max(1.0, float(np.linalg.norm(step)))
            if float(np.abs(step).max(initial=0.0)) < _SETTLED:
                break
        covariance: Vector = np.linalg.inv(hessian).astype(np.float64)
        return cls(mean, covariance)

    def information(self, differences: Vector) -> Vector:
        """(n,): bits that the outcome of each comparison is expected to tell about the weights (mutual information).

        H(E p) - E H(p) over the posterior (arXiv:1112.5745, eq. 2). Only the reward's difference matters, which is
        normal, so both expectations are Gauss-Hermite sums in one dimension.
        """
        middle = differences @ self.mean
        spread = np.sqrt(np.maximum(np.einsum("nd,de,ne->n", differences, self.covariance, differences), 0.0))
        chances = sigmoid(middle[:, None] + spread[:, None] * _NODES)
        gain: Vector = np.maximum(entropy_bits(chances @ _MASS) - entropy_bits(chances) @ _MASS, 0.0)
        return gain

    def after(self, difference: Vector) -> "Posterior":
        """What would be known once this comparison is judged, whatever the outcome: only the spread narrows."""
        chance = float(sigmoid(difference @ self.mean))
        weight = chance * (1.0 - chance)
        toward = self.covariance @ difference
        narrowed = self.covariance - np.outer(toward, toward) * (weight / (1.0 + weight * float(difference @ toward)))
        return Posterior(self.mean, narrowed)


def sigmoid(x: Vector) -> Vector:
    """Elementwise logistic function, without overflow."""
    result: Vector = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x)))
    return result


def entropy_bits(p: Vector) -> Vector:
    """Elementwise entropy of a yes or no, bits."""
    p = np.clip(p, 1e-12, 1.0 - 1e-12)
    result: Vector = -p * np.log2(p) - (1.0 - p) * np.log2(1.0 - p)
    return result
