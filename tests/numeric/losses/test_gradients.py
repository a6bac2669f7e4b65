"""Gradients in float64 against finite differences, and what has none."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from app.rounds.spec import LOSS_SETTINGS
from app.rounds.spec import LOSSES as SPECS
from tests.numeric.losses.making import f64, side, token_pairs
from worker.trainer.losses import LOSSES, Labels, Pairs, Rankings
from worker.trainer.losses.wpo import wpo_weight


def with_policy(batch: Pairs, chosen: Tensor, rejected: Tensor) -> Pairs:
    """The batch with other token log-probs under the policy, (batch, longest)."""
    sides = [
        replace(old, policy_token_logp=tokens, policy_logp_sum=tokens.sum(1))
        for old, tokens in ((batch.chosen, chosen), (batch.rejected, rejected))
    ]
    return replace(batch, chosen=sides[0], rejected=sides[1])


def inside(batch: Pairs) -> tuple[Tensor, Tensor]:
    """1 at the tokens of chosen and rejected, 0 behind their ends."""
    place = torch.arange(7)
    return (place < batch.chosen.length[:, None]).double(), (place < batch.rejected.length[:, None]).double()


@pytest.mark.parametrize("loss", [name for name, spec in SPECS.items() if spec.shape == "pairs"])
def test_pairwise(loss: str) -> None:
    """Over every token of both answers, with margins, and ties where the loss reads them.

    Away from the kinks: the seed has chosen answers on either side of ρ_w = 0, none on it, and no pair on the corner
    of the hinge.
    """
    batch = token_pairs(4, seed=3, ties="tie" in SPECS[loss].signals)
    assert {bool(x > 0) for x in batch.chosen.log_ratio} == {True, False}
    masks = inside(batch)
    settings = {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}

    def losses(chosen: Tensor, rejected: Tensor) -> Tensor:
        return LOSSES[loss](with_policy(batch, chosen * masks[0], rejected * masks[1]), **settings)

    inputs = [batch.chosen.policy_token_logp.clone(), batch.rejected.policy_token_logp.clone()]
    assert torch.autograd.gradcheck(losses, tuple(x.requires_grad_() for x in inputs))
    slopes = torch.autograd.grad(losses(*inputs).sum(), inputs)
    assert all(float(slope.abs().sum()) > 0 for slope in slopes)


def test_kto() -> None:
    """Good and bad answers; the point of reference is a constant."""
    desirable = torch.tensor([True, False, True, False])

    def losses(policy: Tensor) -> Tensor:
        judged = side(policy, f64([-20, -21, -22, -23]))
        return LOSSES["kto"](
            Labels(judged, desirable, f64([0.4])[0]), beta=0.1, desirable_weight=1.2, undesirable_weight=0.9
        )

    policy = f64([-19, -20.5, -25, -23.5]).requires_grad_()
    assert torch.autograd.gradcheck(losses, (policy,))
    (slope,) = torch.autograd.grad(losses(policy).sum(), policy)
    assert [bool(x < 0) for x in slope] == desirable.tolist()  # good answers are pushed up, bad ones down


def test_plackett_luce() -> None:
    """Strict rankings, equals, and rows filled up, whose filling has no gradient at all."""
    tiers = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2], [0, 1, -1, -1], [0, 1, 1, 1]])

    def losses(ratios: Tensor) -> Tensor:
        return LOSSES["plackett_luce"](Rankings(ratios, tiers), beta=0.5)

    ratios = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(losses, (ratios,))
    (slope,) = torch.autograd.grad(losses(ratios).sum(), ratios)
    assert slope[2, 2:].tolist() == [0, 0]
    # Only differences count, so what one answer gains the others lose.
    torch.testing.assert_close(slope.sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_weights_of_wpo_are_constants() -> None:
    batch = token_pairs(3)
    policy = batch.chosen.policy_token_logp.clone().requires_grad_()
    moving = with_policy(batch, policy, batch.rejected.policy_token_logp)
    assert not wpo_weight(moving).requires_grad
    with pytest.raises(ValueError, match="collisions=True"):
        wpo_weight(replace(batch, chosen=replace(batch.chosen, policy_token_collision=None)))


@pytest.mark.parametrize("loss", [name for name, spec in SPECS.items() if spec.shape == "pairs"])
@pytest.mark.parametrize("nats", [-4000.0, 4000.0])
def test_far_away_nothing_overflows(loss: str, nats: float) -> None:
    """In fp32, thousands of nats from the reference, loss and gradient are finite: weights can still be mended."""
    zero = torch.zeros(1)
    policy = torch.tensor([[nats - 5000]], requires_grad=True)
    reference = torch.tensor([[-5000.0]])
    chosen, rejected = side(policy, reference, torch.tensor([900.0])), side(reference, reference, torch.tensor([700.0]))
    for tie in [None, torch.tensor([True])] if "tie" in SPECS[loss].signals else [None]:
        settings = {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}
        value = LOSSES[loss](Pairs(chosen, rejected, zero, tie), **settings)
        (slope,) = torch.autograd.grad(value.sum(), policy, retain_graph=True)
        assert math.isfinite(float(value.detach()))
        assert math.isfinite(float(slope))
