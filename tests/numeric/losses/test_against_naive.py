"""Every loss against the formula written down once more, answer by answer, with plain floats and no tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import pytest
import torch

from app.rounds.spec import LOSSES as SPECS
from tests.numeric.losses.making import f64, labels, rankings, token_pairs
from worker.trainer.losses import LOSSES, Pairs, Side
from worker.trainer.losses.kto import kto
from worker.trainer.losses.plackett_luce import plackett_luce
from worker.trainer.losses.wpo import wpo_weight


@dataclass(frozen=True)
class Answer:
    """Its tokens' log-probs under policy and reference."""

    policy: list[float]
    reference: list[float]

    @property
    def rho(self) -> float:
        return sum(self.policy) - sum(self.reference)

    @property
    def size(self) -> int:
        return len(self.policy)

    @property
    def mean(self) -> float:
        return sum(self.policy) / self.size


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def kl(p: float, q: float) -> float:
    """From a coin that falls on heads with p to one with q."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def blend(share: float, one: float, other: float) -> float:
    """``one`` at a share of 0, ``other`` at 1."""
    return one + share * (other - one)


def odds(answer: Answer) -> float:
    p = math.exp(answer.mean)
    return p / (1 - p)


def ld(answer: Answer, shared: int) -> float:
    return sum(
        (p - r) * (1 if i < shared else 0.3)
        for i, (p, r) in enumerate(zip(answer.policy, answer.reference, strict=True))
    )


Naive = Callable[[Answer, Answer, float], float]

NAIVE: dict[str, tuple[dict[str, float], Naive]] = {
    "sigmoid": ({"beta": 0.4}, lambda w, x, m: -math.log(s(0.4 * (w.rho - x.rho) - m))),
    "dpop": (
        {"beta": 0.4, "dpop_lambda": 3.0},
        lambda w, x, m: -math.log(s(0.4 * (w.rho - x.rho - 3 * max(0, -w.rho)) - m)),
    ),
    "ipo": ({"tau": 0.4}, lambda w, x, m: (w.rho / w.size - x.rho / x.size - 1 / 0.8 - m / 0.4) ** 2),
    "ipo_sum": ({"tau": 0.4}, lambda w, x, m: (w.rho - x.rho - 1 / 0.8 - m / 0.4) ** 2),
    "hinge": ({"beta": 0.4}, lambda w, x, m: max(0.0, 1 + m - 0.4 * (w.rho - x.rho))),
    "cdpo": (
        {"beta": 0.4, "label_smoothing": 0.2},
        lambda w, x, m: -0.8 * math.log(s(0.4 * (w.rho - x.rho) - m)) - 0.2 * math.log(s(0.4 * (x.rho - w.rho) - m)),
    ),
    "robust": (
        {"beta": 0.4, "label_smoothing": 0.2},
        lambda w, x, m: (
            (-0.8 * math.log(s(0.4 * (w.rho - x.rho) - m)) + 0.2 * math.log(s(0.4 * (x.rho - w.rho) - m))) / 0.6
        ),
    ),
    "exo_pair": (
        {"beta": 0.4, "label_smoothing": 0.2},
        lambda w, x, m: kl(s(0.4 * (w.rho - x.rho) - m), 0.8),
    ),
    "discopop": (
        {"beta": 0.4, "discopop_tau": 0.3},
        lambda w, x, m: blend(
            s((0.4 * (w.rho - x.rho) - m) / 0.3),
            -math.log(s(0.4 * (w.rho - x.rho) - m)),
            math.exp(m - 0.4 * (w.rho - x.rho)),
        ),
    ),
    "length_normalised": ({"beta": 2.0}, lambda w, x, m: -math.log(s(2 * w.rho / w.size - 2 * x.rho / x.size - m))),
    "ld_dpo": (
        {"beta": 0.4, "ld_alpha": 0.3},
        lambda w, x, m: -math.log(s(0.4 * (ld(w, min(w.size, x.size)) - ld(x, min(w.size, x.size))) - m)),
    ),
    "rdpo": (
        {"beta": 0.4, "length_alpha": 0.2},
        lambda w, x, m: -math.log(s(0.4 * (w.rho - x.rho) + 0.2 * (w.size - x.size) - m)),
    ),
    "dpo_nll": (
        {"beta": 0.4, "nll_alpha": 0.7},
        lambda w, x, m: -math.log(s(0.4 * (w.rho - x.rho) - m)) - 0.7 * w.mean,
    ),
    "simpo": ({"beta": 2.0, "gamma": 0.6}, lambda w, x, m: -math.log(s(2 * w.mean - 2 * x.mean - 0.6 - m))),
    "orpo": (
        {"orpo_lambda": 0.3},
        lambda w, x, m: -w.mean - 0.3 * math.log(s(math.log(odds(w) / odds(x)) - m)),
    ),
    "apo_zero": ({"beta": 0.4}, lambda w, x, m: 1 - s(0.4 * w.rho - m / 2) + s(0.4 * x.rho + m / 2)),
    "apo_down": ({"beta": 0.4}, lambda w, x, m: s(0.4 * w.rho) + 1 - s(0.4 * (w.rho - x.rho) - m)),
    "nca_pair": (
        {"beta": 0.4},
        lambda w, x, m: (
            -math.log(s(0.4 * w.rho - m / 2))
            - sum(math.log(1 - s(r)) for r in (0.4 * w.rho - m / 2, 0.4 * x.rho + m / 2)) / 2
        ),
    ),
    "bco_pair": (
        {"beta": 0.4},
        lambda w, x, m: -math.log(s(0.4 * w.rho - m / 2)) - math.log(1 - s(0.4 * x.rho + m / 2)),
    ),
    "mpo": (
        {"beta": 0.4, "preference_weight": 0.7, "quality_weight": 0.3, "generation_weight": 0.6},
        lambda w, x, m: (
            -0.7 * math.log(s(0.4 * (w.rho - x.rho) - m))
            - 0.3 * (math.log(s(0.4 * w.rho - m / 2)) + math.log(1 - s(0.4 * x.rho + m / 2)))
            - 0.6 * w.mean
        ),
    ),
    "sppo_hard": (
        {"beta": 0.4},
        lambda w, x, m: (w.rho - 1.25 * (1 + m)) ** 2 + (x.rho - 1.25 * (-1 - m)) ** 2,
    ),
    "rao_kupper": (
        {"beta": 0.4, "nu": 2.0},
        lambda w, x, m: -math.log(math.exp(0.4 * w.rho - m) / (math.exp(0.4 * w.rho - m) + 2 * math.exp(0.4 * x.rho))),
    ),
    "davidson": (
        {"beta": 0.4, "nu": 0.7},
        lambda w, x, m: (
            -math.log(
                math.exp(0.4 * w.rho - m)
                / (
                    math.exp(0.4 * w.rho - m)
                    + math.exp(0.4 * x.rho)
                    + 1.4 * math.sqrt(math.exp(0.4 * w.rho - m) * math.exp(0.4 * x.rho))
                )
            )
        ),
    ),
}
"""Ties of the last two below. Strengths are e^{βρ}, as Rao, Kupper and Davidson wrote them."""


def answers(side: Side) -> list[Answer]:
    return [
        Answer(side.policy_token_logp[i, : int(n)].tolist(), side.reference_token_logp[i, : int(n)].tolist())
        for i, n in enumerate(side.length.tolist())
    ]


def both(batch: Pairs) -> list[tuple[Answer, Answer, float]]:
    return list(zip(answers(batch.chosen), answers(batch.rejected), batch.margin.tolist(), strict=True))


@pytest.mark.parametrize("loss", [name for name, spec in SPECS.items() if spec.shape == "pairs"])
@pytest.mark.parametrize("margins", [False, True])
def test_pairwise(loss: str, margins: bool) -> None:
    settings, naive = NAIVE[loss]
    batch = token_pairs(24, seed=1, margins=margins)
    expected = [naive(won, lost, margin) for won, lost, margin in both(batch)]
    torch.testing.assert_close(LOSSES[loss](batch, **settings), f64(expected), rtol=0, atol=1e-9)


def test_bco_with_a_shift() -> None:
    """Against a shift of 1.5 nats answers are held as against a reference that has 1.5 nats more."""
    batch = token_pairs(24, seed=1)
    expected = [
        -math.log(s(0.4 * (w.rho - 1.5) - m / 2)) - math.log(1 - s(0.4 * (x.rho - 1.5) + m / 2))
        for w, x, m in both(batch)
    ]
    shifted = replace(batch, shift=torch.tensor(1.5, dtype=torch.float64))
    torch.testing.assert_close(LOSSES["bco_pair"](shifted, beta=0.4), f64(expected), rtol=0, atol=1e-9)


def test_ties() -> None:
    """A tie is what is left of 1 in Rao and Kupper's model, and 2ν√(πᵢπⱼ) over the sum in Davidson's."""
    batch = token_pairs(24, seed=1, margins=False, ties=True)
    for loss in ("rao_kupper", "davidson"):
        settings, win = NAIVE[loss]
        expected = []
        for (won, lost, _), tie in zip(both(batch), batch.tie.tolist(), strict=True):
            wins = [math.exp(-win(*sides, 0.0)) for sides in ((won, lost), (lost, won))]
            expected.append(-math.log(1 - sum(wins)) if tie else win(won, lost, 0.0))
        torch.testing.assert_close(LOSSES[loss](batch, **settings), f64(expected), rtol=0, atol=1e-9)


def test_kto() -> None:
    ratios, good = [0.5, -2.0, 3.0, 0.0, -0.3], [True, True, False, False, True]
    losses = kto(labels(ratios, good, 0.8), beta=0.4, desirable_weight=1.1, undesirable_weight=0.9)
    expected = [
        1.1 - 1.1 * s(0.4 * (r - 0.8)) if yes else 0.9 - 0.9 * s(0.4 * (0.8 - r))
        for r, yes in zip(ratios, good, strict=True)
    ]
    torch.testing.assert_close(losses, f64(expected), rtol=0, atol=1e-12)


def strict_probability(scores: Sequence[float]) -> float:
    """Of this order, best first."""
    strengths = [math.exp(score) for score in scores]
    return math.prod(strengths[k] / sum(strengths[k:]) for k in range(len(scores)))


TIERS = [[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1], [0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("tiers", TIERS)
def test_plackett_luce(tiers: list[int]) -> None:
    """The probability of a ranking with equals is the sum over all strict orders that agree with it."""
    ratios = [0.3, -1.2, 2.0, 0.7]
    agreeing = [order for order in permutations(range(4)) if [tiers[i] for i in order] == sorted(tiers)]
    expected = -math.log(sum(strict_probability([0.6 * ratios[i] for i in order]) for order in agreeing))
    losses = plackett_luce(rankings([ratios, ratios[:2]], [tiers, [0, 1]]), beta=0.6)
    assert float(losses[0]) == pytest.approx(expected, abs=1e-12)
    assert float(losses[1]) == pytest.approx(-math.log(strict_probability([0.18, -0.72])), abs=1e-12)


def test_wpo_weight() -> None:
    batch = token_pairs(24, seed=2)
    expected = []
    for i in range(24):
        log_weight = 0.0
        for one in (batch.chosen, batch.rejected):
            n = int(one.length[i])
            terms = zip(one.policy_token_logp[i, :n].tolist(), one.policy_token_collision[i, :n].tolist(), strict=True)
            log_weight += sum(p - c for p, c in terms) / n
        expected.append(min(1.0, math.exp(log_weight)))
    assert min(expected) < 1
    assert max(expected) == 1
    torch.testing.assert_close(wpo_weight(batch), f64(expected), rtol=0, atol=1e-12)
