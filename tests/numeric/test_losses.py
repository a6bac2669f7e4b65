"""The losses against values worked out by hand, their gradients, and the limits in which they are one another."""

import inspect
import math

import pytest
import torch
from torch import Tensor

from app.rounds.spec import LOSS_SETTINGS
from worker.trainer.losses import LOSSES, READS_OUTCOMES, Pairs, Side
from worker.trainer.losses.dpop import dpop
from worker.trainer.losses.sigmoid import sigmoid


def side(policy: Tensor, reference: Tensor) -> Side:
    return Side(policy, reference, torch.ones_like(policy), policy[:, None], reference[:, None])


def pairs(chosen: list[float], rejected: list[float]) -> Pairs:
    """Pairs of the given log-ratios ρ_w and ρ_l, over a reference of −20 nats."""
    rho_w, rho_l = torch.tensor(chosen, dtype=torch.float64), torch.tensor(rejected, dtype=torch.float64)
    reference = torch.full_like(rho_w, -20.0)
    return Pairs(side(reference + rho_w, reference), side(reference + rho_l, reference), torch.zeros_like(rho_w))


def test_sigmoid_by_hand() -> None:
    """ρ_w = 2, ρ_l = −3, β = 0.1: Δ = 5, d = 0.5, −log σ(0.5) = log(1 + e^−0.5) = log 1.6065306597 = 0.4740769842.

    ρ_w = −3, ρ_l = 2: d = −0.5, log(1 + e^0.5) = 0.4740769842 + 0.5.
    """
    losses = sigmoid(pairs([2, -3], [-3, 2]), beta=0.1)
    torch.testing.assert_close(losses, torch.tensor([0.4740769842, 0.9740769842], dtype=torch.float64))


def test_dpop_by_hand() -> None:
    """β = 0.3, λ = 50.

    ρ_w = −0.1, ρ_l = −0.5: Δ = 0.4, penalty 50·0.1 = 5, argument 0.3·(0.4 − 5) = −1.38,
    −log σ(−1.38) = log(1 + e^1.38) = log 4.974901627 = 1.604405…
    ρ_w = 0.1, ρ_l = −0.5: no penalty, argument 0.3·0.6 = 0.18, log(1 + e^−0.18) = log 1.835270211 = 0.607191…
    """
    losses = dpop(pairs([-0.1, 0.1], [-0.5, -0.5]), beta=0.3, dpop_lambda=50)
    expected = [math.log(1 + math.exp(1.38)), math.log(1 + math.exp(-0.18))]
    assert expected == pytest.approx([1.604405, 0.607191], abs=1e-5)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def test_dpop_keeps_the_penalty_inside_the_logistic() -> None:
    """ρ_w = ρ_l = −1: the argument is β·(0 − λ) = −15, the loss log(1 + e^15) ≈ 15.0000003.

    With λ outside the logistic the loss would be log 2 + 50 (or + 15, if β reached it), and its slope in ρ_l nothing
    like β·σ(15).
    """
    rejected = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    batch = Pairs(side(zero - 1, zero), side(rejected, zero), zero)
    loss = dpop(batch, beta=0.3, dpop_lambda=50)
    (slope,) = torch.autograd.grad(loss.sum(), rejected)
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(15)))
    assert float(slope) == pytest.approx(0.3 / (1 + math.exp(-15)))


def test_dpop_without_penalty_is_dpo() -> None:
    batch = pairs([1.5, -2.0, 0.0], [0.5, -1.0, 0.0])
    torch.testing.assert_close(dpop(batch, beta=0.3, dpop_lambda=0.0), sigmoid(batch, beta=0.3), rtol=0, atol=0)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_policy_equal_to_reference_gives_log_two(loss: str) -> None:
    settings = {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}
    losses = LOSSES[loss](pairs([0.0, 0.0], [0.0, 0.0]), **settings)
    torch.testing.assert_close(losses, torch.full((2,), math.log(2), dtype=torch.float64))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_gradient_in_float64(loss: str) -> None:
    """Away from ρ_w = 0, where DPOP has its kink."""
    generator = torch.Generator().manual_seed(0)
    settings = {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}
    reference = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    offset = torch.tensor([0.05, -0.04, 0.03, -0.02, 0.06], dtype=torch.float64)

    def losses(chosen: Tensor, rejected: Tensor) -> Tensor:
        return LOSSES[loss](
            Pairs(side(chosen, reference[0]), side(rejected, reference[1]), torch.zeros(5, dtype=torch.float64)),
            **settings,
        )

    inputs = (reference[0] + offset, reference[1] - 2 * offset)
    assert torch.autograd.gradcheck(losses, tuple(x.clone().requires_grad_() for x in inputs))


def test_every_loss_is_known_with_exactly_the_settings_it_reads() -> None:
    assert LOSSES.keys() == LOSS_SETTINGS.keys() == READS_OUTCOMES.keys()
    for name, function in LOSSES.items():
        keywords = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert keywords == set(LOSS_SETTINGS[name]), name
