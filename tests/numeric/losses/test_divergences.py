"""f-DPO: scores by hand, by a second implementation, at their limits, by finite differences, and by TRL's own code."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from app.rounds.spec import DIVERGENCES, LOSS_SETTINGS
from app.rounds.spec import LOSSES as SPECS
from tests.numeric.losses.making import f64, pairs, side, token_pairs
from tests.numeric.losses.test_against_naive import NAIVE, Answer, both
from tests.numeric.losses.test_against_trl import SAME, in_fp32, trl_dpo
from tests.numeric.losses.test_gradients import inside, with_policy
from tests.numeric.losses.test_limits import defaults, equal
from worker.trainer.losses import LOSSES, Pairs
from worker.trainer.losses.divergences import (
    TANGENT_NATS,
    Divergence,
    alpha_divergence,
    divergence,
    forward_kl,
    jensen_shannon,
)

ALPHA = 0.3
OTHERS = [name for name in DIVERGENCES if name != "reverse_kl"]
READERS = [name for name, spec in SPECS.items() if spec.divergence]


def made(name: str, alpha: float = ALPHA) -> Divergence:
    found = divergence(name, alpha)
    assert found is not None
    return found


def test_by_hand() -> None:
    """u = 4: 1 − ¼ = ¾; log(8/5); at α = ½ (4^−½ − 1)/(−½) = 1. u = ¼: 1 − 4 = −3; log(½/(5/4)) = log(2/5); −2.

    u = 1: 0 for all.
    """
    ratios = f64([math.log(4), -math.log(4), 0])
    equal(forward_kl(ratios), f64([0.75, -3, 0]))
    equal(jensen_shannon(ratios), f64([math.log(1.6), math.log(0.4), 0]))
    equal(alpha_divergence(ratios, 0.5), f64([1, -2, 0]))


def test_a_loss_by_hand() -> None:
    """DPO, β = log 2, ρ_w = log 2, ρ_l = −log 2 under the forward KL: ½ − (−1) = 3/2; δ = ½ log 2 leaves log 2 of it.

    −log σ(log 2) = log(3/2). Hinge, β = ½: 1 − ¾ = ¼.
    """
    two = math.log(2)
    batch = pairs([two], [-two], margin=[two / 2]).under(forward_kl)
    equal(LOSSES["sigmoid"](batch, beta=two), f64([math.log(1.5)]))
    equal(LOSSES["hinge"](replace(batch, margin=f64([0])), beta=0.5), f64([0.25]))


def test_alpha_goes_from_the_forward_kl_to_the_reverse() -> None:
    ratios = torch.linspace(-5, 5, 41, dtype=torch.float64)
    equal(alpha_divergence(ratios, 0.0), forward_kl(ratios))
    equal(alpha_divergence(ratios, 1.0), ratios)
    # The next term of u^(α−1) = e^(−ερ), ε = 1 − α: ρ − ερ²/2 + …
    equal(alpha_divergence(ratios, 1 - 1e-7), ratios - 1e-7 * ratios.square() / 2, 1e-11)


def test_bounds_and_slopes() -> None:
    """Never above 1, log 2 and 1/(1−α); at ρ = 0 the slopes are 1, ½ and 1."""
    far = f64([-20, 0, 600])
    for name, bound, slope in (("forward_kl", 1, 1), ("js", math.log(2), 0.5), ("alpha", 1 / (1 - ALPHA), 1)):
        scores = made(name)(far)
        assert float(scores[0]) < float(scores[1]) == 0
        assert float(scores[2]) == pytest.approx(bound)
        ratio = f64([0]).requires_grad_()
        (found,) = torch.autograd.grad(made(name)(ratio).sum(), ratio)
        assert float(found) == pytest.approx(slope)


def test_tangent() -> None:
    """Value and slope of the exponential go over into each other, and fp32 keeps small slopes exact."""
    ratios = -f64([TANGENT_NATS - 1e-6, TANGENT_NATS + 1e-6, TANGENT_NATS + 1]).requires_grad_()
    below, above, beyond = forward_kl(ratios)
    edge = math.exp(TANGENT_NATS)
    assert float((above - below).detach()) == pytest.approx(-2e-6 * edge, rel=1e-3)
    assert float(beyond.detach()) == pytest.approx(1 - 2 * edge)
    (slopes,) = torch.autograd.grad(forward_kl(ratios).sum(), ratios)
    torch.testing.assert_close(slopes, f64([edge] * 3), rtol=1e-5, atol=0)
    small = torch.tensor([0.5, -2.0], requires_grad=True)
    (slopes,) = torch.autograd.grad(forward_kl(small).sum(), small)
    torch.testing.assert_close(slopes, (-small).exp().detach())


def naive_score(name: str, rho: float) -> float:
    u = math.exp(rho)
    if name == "forward_kl":
        return 1 - 1 / u
    if name == "js":
        return math.log(2 * u / (1 + u))
    return float((u ** (ALPHA - 1) - 1) / (ALPHA - 1))


@pytest.mark.parametrize("loss", READERS)
@pytest.mark.parametrize("name", OTHERS)
def test_against_naive(loss: str, name: str) -> None:
    """The second implementation of the loss, on answers of one token whose log-ratio is the score."""
    settings, naive = NAIVE[loss]
    batch = token_pairs(24, seed=1)

    def scored(answer: Answer) -> Answer:
        rest = [0.0] * (answer.size - 1)
        return Answer([naive_score(name, answer.rho), *rest], [0.0, *rest])

    # Short answers alone: the naive logistic overflows far out.
    some = [k for k, (w, x, _) in enumerate(both(batch)) if max(abs(w.rho), abs(x.rho)) < 4]
    assert len(some) >= 8
    expected = [naive(scored(w), scored(x), m) for w, x, m in (both(batch)[k] for k in some)]
    ours = LOSSES[loss](batch.under(made(name)), **settings)[some]
    torch.testing.assert_close(ours, f64(expected), rtol=0, atol=1e-9)
    assert not torch.allclose(ours, LOSSES[loss](batch, **settings)[some], atol=1e-3)


TRL_NAMES = {"forward_kl": "forward_kl", "js": "js_divergence", "alpha": "alpha_divergence"}


@pytest.mark.filterwarnings("ignore")  # TRL warns of its own affairs while it is imported.
@pytest.mark.parametrize(("loss", "ours", "theirs"), [case for case in SAME if SPECS[case[0]].divergence])
@pytest.mark.parametrize("name", OTHERS)
def test_against_trl(loss: str, ours: dict[str, float], theirs: dict[str, Any], name: str) -> None:
    batch = in_fp32(token_pairs(12, seed=5, margins=False))
    # TRL's exponential loss of DiscoPOP and the like reach e^10 here, so digits are counted, not places.
    value = float(LOSSES[loss](batch.under(made(name)), **ours).mean())
    known = {"f_divergence_type": TRL_NAMES[name], "f_alpha_divergence_coef": ALPHA}
    assert value == pytest.approx(trl_dpo(batch, **theirs | known), rel=2e-5)
    assert value != pytest.approx(trl_dpo(batch, **theirs), rel=1e-3)


@pytest.mark.parametrize("loss", READERS)
@pytest.mark.parametrize("name", OTHERS)
def test_gradients(loss: str, name: str) -> None:
    batch = token_pairs(4, seed=3, ties="tie" in SPECS[loss].signals)
    masks = inside(batch)

    def losses(chosen: Tensor, rejected: Tensor) -> Tensor:
        moved = with_policy(batch, chosen * masks[0], rejected * masks[1]).under(made(name))
        return LOSSES[loss](moved, **defaults(loss))

    # Near the reference, where finite differences of exponentials can be trusted.
    inputs = [side.reference_token_logp + 0.2 * side.policy_token_logp for side in (batch.chosen, batch.rejected)]
    assert torch.autograd.gradcheck(losses, tuple(x.requires_grad_() for x in inputs))


@pytest.mark.parametrize("loss", READERS)
@pytest.mark.parametrize("name", OTHERS)
def test_losses_start_where_they_do_with_the_reverse_kl(loss: str, name: str) -> None:
    batch = pairs([0.0, 0.0], [0.0, 0.0], margin=[0.0, 0.7])
    equal(LOSSES[loss](batch.under(made(name)), **defaults(loss)), LOSSES[loss](batch, **defaults(loss)))


@pytest.mark.parametrize("loss", READERS)
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("nats", [-4000.0, -100.0, 100.0, 4000.0])
def test_far_away_nothing_overflows(loss: str, name: str, nats: float) -> None:
    """In fp32, thousands of nats from the reference, loss and gradient are finite."""
    policy = torch.tensor([[nats - 5000]], requires_grad=True)
    reference = torch.tensor([[-5000.0]])
    for lengths in ((900.0, 700.0), (1.0, 1.0)):
        chosen = side(policy, reference, torch.tensor([lengths[0]]))
        rejected = side(reference, reference, torch.tensor([lengths[1]]))
        for tie in [None, torch.tensor([True])] if "tie" in SPECS[loss].signals else [None]:
            for sides in ((chosen, rejected), (rejected, chosen)):
                batch = Pairs(*sides, torch.zeros(1), tie).under(made(name))
                value = LOSSES[loss](batch, **defaults(loss))
                (slope,) = torch.autograd.grad(value.sum(), policy, retain_graph=True)
                assert math.isfinite(float(value.detach()))
                assert math.isfinite(float(slope))


def test_losses_that_read_more_than_a_difference_take_none() -> None:
    """Their value would not change: only the readers look at scores, and MPO, which is made of one of them."""
    batch = token_pairs(8)
    for loss, spec in SPECS.items():
        if spec.shape == "pairs" and loss != "mpo":
            settings = {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}
            same = torch.equal(LOSSES[loss](batch.under(forward_kl), **settings), LOSSES[loss](batch, **settings))
            assert same is not spec.divergence, loss


def test_an_unknown_one_is_refused() -> None:
    assert divergence("reverse_kl", 0.5) is None
    with pytest.raises(ValueError, match="known are reverse_kl, forward_kl, js, alpha"):
        divergence("kl", 0.5)
