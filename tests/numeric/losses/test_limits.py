"""In their limits the losses become one another, and where policy and reference agree they are known numbers."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from app.rounds.spec import LOSS_SETTINGS
from app.rounds.spec import LOSSES as SPECS
from tests.numeric.losses.making import f64, labels, pairs, rankings, token_pairs
from worker.trainer.losses import LOSSES, Pairs
from worker.trainer.losses.apo_down import apo_down
from worker.trainer.losses.apo_zero import apo_zero
from worker.trainer.losses.bco_pair import bco_pair
from worker.trainer.losses.cdpo import cdpo
from worker.trainer.losses.davidson import davidson
from worker.trainer.losses.discopop import RIGHT_WAY_TAU, discopop
from worker.trainer.losses.dpo_nll import dpo_nll
from worker.trainer.losses.dpop import dpop
from worker.trainer.losses.exo_pair import exo_pair
from worker.trainer.losses.hinge import hinge
from worker.trainer.losses.ipo import ipo, ipo_sum
from worker.trainer.losses.kto import kto
from worker.trainer.losses.ld_dpo import ld_dpo
from worker.trainer.losses.length_normalised import length_normalised
from worker.trainer.losses.mpo import mpo
from worker.trainer.losses.nca_pair import nca_pair
from worker.trainer.losses.orpo import orpo
from worker.trainer.losses.plackett_luce import MOST_EQUALS, plackett_luce
from worker.trainer.losses.rankings import Rankings
from worker.trainer.losses.rao_kupper import rao_kupper
from worker.trainer.losses.rdpo import rdpo
from worker.trainer.losses.robust import robust
from worker.trainer.losses.sigmoid import sigmoid
from worker.trainer.losses.simpo import simpo
from worker.trainer.losses.sppo_hard import sppo_hard
from worker.trainer.losses.wpo import wpo_weight

LOG_2 = math.log(2)
AT_REFERENCE = {
    "sigmoid": LOG_2,
    "dpop": LOG_2,
    "cdpo": LOG_2,
    "robust": LOG_2,
    "length_normalised": LOG_2,
    "ld_dpo": LOG_2,
    "ipo": 1 / (4 * 0.1**2),
    "ipo_sum": 1 / (4 * 0.1**2),
    "hinge": 1.0,
    "apo_zero": 1.0,
    "discopop": (LOG_2 + 1) / 2,
    "apo_down": 1.0,
    "nca_pair": 2 * LOG_2,
    "bco_pair": 2 * LOG_2,
    "sppo_hard": 1 / (2 * 0.1**2),
    # ½·log(½/0.999) + ½·log(½/0.001)
    "exo_pair": -LOG_2 - math.log(0.999 * 0.001) / 2,
    "rao_kupper": math.log(4),
    "davidson": math.log(4),
    # One token of −20 nats each: R-DPO sees no difference in length, NLL adds 20, SimPO starts γ = 1 behind, and
    # ORPO's odds are equal beside an NLL of 20.
    "rdpo": LOG_2,
    "dpo_nll": LOG_2 + 20,
    "mpo": (0.8 + 2 * 0.2) * LOG_2 + 20,
    "simpo": math.log(1 + math.e),
    "orpo": 20 + 0.1 * LOG_2,
}


def defaults(loss: str) -> dict[str, float]:
    return {name: rule.default for name, rule in LOSS_SETTINGS[loss].items()}


def equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("loss", [name for name, spec in SPECS.items() if spec.shape == "pairs"])
def test_policy_equal_to_reference(loss: str) -> None:
    losses = LOSSES[loss](pairs([0.0, 0.0], [0.0, 0.0]), **defaults(loss))
    equal(losses, f64([AT_REFERENCE[loss]] * 2))


def test_policy_equal_to_reference_for_ties_labels_and_rankings() -> None:
    """Both tie models give log 2 for a tie, KTO λ/2, Plackett-Luce log K!."""
    tie = pairs([0.0], [0.0], tie=[True])
    equal(rao_kupper(tie, **defaults("rao_kupper")), f64([LOG_2]))
    equal(davidson(tie, **defaults("davidson")), f64([LOG_2]))
    equal(
        kto(labels([0, 0], [True, False], 0.0), beta=0.1, desirable_weight=1.3, undesirable_weight=0.8),
        f64([0.65, 0.4]),
    )
    batch = rankings([[0.0] * 4, [0.0] * 3], [[0, 1, 2, 3], [0, 1, 2]])
    equal(plackett_luce(batch, beta=0.1), f64([math.log(24), math.log(6)]))


LIMITS: dict[str, Callable[[Pairs], Tensor]] = {
    "dpop without penalty": lambda p: dpop(p, beta=0.1, dpop_lambda=0.0),
    "cdpo without flips": lambda p: cdpo(p, beta=0.1, label_smoothing=0.0),
    "robust without flips": lambda p: robust(p, beta=0.1, label_smoothing=0.0),
    "ld_dpo with every token whole": lambda p: ld_dpo(p, beta=0.1, ld_alpha=1.0),
    "rdpo without price": lambda p: rdpo(p, beta=0.1, length_alpha=0.0),
    "dpo_nll without nll": lambda p: dpo_nll(p, beta=0.1, nll_alpha=0.0),
    "mpo of the preference alone": lambda p: mpo(
        p, beta=0.1, preference_weight=1.0, quality_weight=0.0, generation_weight=0.0
    ),
    "rao_kupper without ties": lambda p: rao_kupper(p, beta=0.1, nu=1.0),
    "davidson without ties": lambda p: davidson(p, beta=0.1, nu=0.0),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limit_is_dpo_margins_included(limit: str) -> None:
    batch = token_pairs(16)
    equal(LIMITS[limit](batch), sigmoid(batch, beta=0.1))
    policy = batch.chosen.policy_token_logp.clone().requires_grad_()
    chosen = replace(batch.chosen, policy_token_logp=policy, policy_logp_sum=policy.sum(1))
    moving = replace(batch, chosen=chosen)
    ours, theirs = (
        torch.autograd.grad(loss(moving).sum(), policy)[0] for loss in (LIMITS[limit], lambda p: sigmoid(p, beta=0.1))
    )
    # Tokens behind an answer's end have no say; only LD-DPO reads single tokens.
    inside = policy.detach() != 0
    equal(ours[inside], theirs[inside])


def test_two_way_plackett_luce_is_dpo() -> None:
    batch = token_pairs(16, margins=False)
    ratios = torch.stack([batch.chosen.log_ratio, batch.rejected.log_ratio], 1)
    two = Rankings(ratios, torch.tensor([[0, 1]]).expand(16, 2))
    equal(plackett_luce(two, beta=0.1), sigmoid(batch, beta=0.1))


def test_plackett_luce_takes_any_order_of_equals_and_any_filling() -> None:
    batch = rankings([[0.3, -1.0, 2.0, 0.7]], [[0, 0, 1, 1]])
    other = rankings([[-1.0, 0.3, 0.7, 2.0], [0.0] * 6], [[0, 0, 1, 1], [0, 1, 2, 3, 4, 5]])
    equal(plackett_luce(batch, beta=0.5)[0], plackett_luce(other, beta=0.5)[0])
    with pytest.raises(ValueError, match=f"at most {MOST_EQUALS}"):
        plackett_luce(rankings([[0.0] * (MOST_EQUALS + 2)], [[0] * (MOST_EQUALS + 1) + [1]]), beta=0.5)


def test_a_tie_that_cannot_happen_is_infinite() -> None:
    tie = pairs([0.5], [0.0], tie=[True])
    assert float(rao_kupper(tie, beta=1.0, nu=1.0)) == math.inf
    assert float(davidson(tie, beta=1.0, nu=0.0)) == math.inf


@pytest.mark.parametrize("model", ["rao_kupper", "davidson"])
def test_win_loss_and_tie_are_all_there_is(model: str) -> None:
    """The probabilities add up to 1 wherever the policy stands; a tie does not care which side is called chosen."""
    ratios = [-30.0, -1.0, 0.0, 0.4, 25.0]
    zeros = [0.0] * 5
    win, lose = (LOSSES[model](pairs(*sides), beta=0.7, nu=1.7) for sides in ((ratios, zeros), (zeros, ratios)))
    tie, swapped = (
        LOSSES[model](pairs(*sides, tie=[True] * 5), beta=0.7, nu=1.7) for sides in ((ratios, zeros), (zeros, ratios))
    )
    equal((-win).exp() + (-lose).exp() + (-tie).exp(), f64([1.0] * 5))
    equal(tie, swapped)


def test_cdpo_is_content_where_the_flips_are_explained() -> None:
    """Its slope is 0 at σ(d) = 1 − ε."""
    delta = torch.tensor([math.log(0.8 / 0.2) / 0.1], dtype=torch.float64, requires_grad=True)
    batch = pairs([0.0], [0.0])
    moved = replace(batch, chosen=replace(batch.chosen, policy_logp_sum=batch.chosen.policy_logp_sum + delta))
    (slope,) = torch.autograd.grad(cdpo(moved, beta=0.1, label_smoothing=0.2).sum(), delta)
    assert float(slope) == pytest.approx(0, abs=1e-12)


def slope_of(loss: Callable[[Pairs], Tensor], chosen: float, rejected: float = 0.0) -> tuple[float, float]:
    """Of one pair's loss in ρ_w and ρ_l, at the given ones."""
    ratios = [f64([chosen]).requires_grad_(), f64([rejected]).requires_grad_()]
    batch = pairs([0.0], [0.0])
    sides = [
        replace(side, policy_logp_sum=side.policy_logp_sum + ratio)
        for side, ratio in zip((batch.chosen, batch.rejected), ratios, strict=True)
    ]
    slopes = torch.autograd.grad(loss(replace(batch, chosen=sides[0], rejected=sides[1])).sum(), ratios)
    return float(slopes[0]), float(slopes[1])


def test_exo_aims_where_cdpo_does_and_gives_up_what_is_far_off() -> None:
    """Both have their minimum at σ(d) = 1 − ε, 0 for a divergence; far behind, cDPO pulls with β(1 − ε), EXO not."""
    target = math.log(0.8 / 0.2) / 0.1

    def exo(batch: Pairs) -> Tensor:
        return exo_pair(batch, beta=0.1, label_smoothing=0.2)

    assert slope_of(exo, target) == pytest.approx((0, 0), abs=1e-12)
    equal(exo(pairs([target], [0.0])), f64([0.0]))
    assert slope_of(exo, target - 1)[0] < 0 < slope_of(exo, target + 1)[0]
    assert slope_of(lambda batch: cdpo(batch, beta=0.1, label_smoothing=0.2), -300)[0] == pytest.approx(-0.08)
    assert slope_of(exo, -300)[0] == pytest.approx(0, abs=1e-9)
    equal(exo(pairs([-4000.0, 4000.0], [0.0, 0.0])), f64([-math.log(0.2), -math.log(0.8)]))


def test_exo_of_few_flips_counts_pairs_on_the_wrong_side() -> None:
    """ε → 0: the loss over −log ε is σ(−d), within log 2 over −log ε, the entropy of a coin being log 2 at most."""
    batch = token_pairs(16)
    wrong = (-(0.1 * batch.delta - batch.margin)).sigmoid()
    scale = -math.log(1e-300)
    equal(exo_pair(batch, beta=0.1, label_smoothing=1e-300) / scale, wrong, LOG_2 / scale)


def test_discopop_is_dpo_behind_and_exponential_ahead() -> None:
    """τ → 0: a step from one to the other at x = 0."""
    batch = token_pairs(16)
    x = 0.1 * batch.delta - batch.margin
    assert {bool(value > 0) for value in x} == {True, False}
    equal(discopop(batch, beta=0.1, discopop_tau=1e-6), torch.where(x < 0, sigmoid(batch, beta=0.1), (-x).exp()))


def test_discopop_pulls_level_pairs_against_the_vote_below_a_tau() -> None:
    """In x its slope at 0 is (1 − log 2)/(4τ) − ¾; at τ = 0.05 it turns at −0.118569 and 0.072006."""

    def slope(x: float, tau: float) -> float:
        return slope_of(lambda batch: discopop(batch, beta=0.5, discopop_tau=tau), x / 0.5)[0] / 0.5

    for tau in (0.05, 0.3, 1.0):
        assert slope(0.0, tau) == pytest.approx((1 - LOG_2) / (4 * tau) - 0.75, abs=1e-12)
    found = [slope(x, 0.05) > 0 for x in (-0.11858, -0.11856, 0.0720, 0.07202)]
    assert found == [False, True, True, False]
    everywhere = [x / 200 for x in range(-400, 401)]
    assert all(slope(x, RIGHT_WAY_TAU) < 0 for x in everywhere)
    assert any(slope(x, RIGHT_WAY_TAU - 0.005) > 0 for x in everywhere)


def test_robust_is_unbiased() -> None:
    """Its mean over votes flipped at rate ε is DPO's loss on the true ones; a flipped vote keeps its margin."""
    batch = token_pairs(16)
    flipped = replace(batch, chosen=batch.rejected, rejected=batch.chosen)
    seen = [robust(b, beta=0.1, label_smoothing=0.3) for b in (batch, flipped)]
    equal(0.7 * seen[0] + 0.3 * seen[1], sigmoid(batch, beta=0.1))


def test_length_normalised_of_single_tokens_is_dpo() -> None:
    batch = pairs([0.4, -1.0], [0.1, 2.0], margin=[0.0, 0.3])
    equal(length_normalised(batch, beta=0.1), sigmoid(batch, beta=0.1))


def test_simpo_is_length_normalised_dpo_against_a_reference_that_holds_everything_certain() -> None:
    """γ = 0, log π_ref = 0."""
    batch = token_pairs(16)
    sides = [
        replace(
            side,
            reference_logp_sum=torch.zeros_like(side.reference_logp_sum),
            reference_token_logp=torch.zeros_like(side.reference_token_logp),
        )
        for side in (batch.chosen, batch.rejected)
    ]
    certain = replace(batch, chosen=sides[0], rejected=sides[1])
    equal(simpo(batch, beta=2.0, gamma=0.0), length_normalised(certain, beta=2.0))


def test_orpo_without_preference_is_supervised() -> None:
    batch = token_pairs(16)
    equal(orpo(batch, orpo_lambda=0.0), -batch.chosen.mean_logp)


def test_hinge_has_dpos_slope_far_behind_and_none_far_ahead() -> None:
    for delta, slope in ((-400.0, -0.1), (400.0, 0.0)):
        moved = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
        batch = pairs([0.0], [0.0])
        batch = replace(batch, chosen=replace(batch.chosen, policy_logp_sum=batch.chosen.policy_logp_sum + moved))
        for loss in (hinge, sigmoid):
            (found,) = torch.autograd.grad(loss(batch, beta=0.1).sum(), moved, retain_graph=True)
            assert float(found) == pytest.approx(slope, abs=1e-12)


def test_apo_zero_is_kto_of_a_good_and_a_bad_answer_around_zero() -> None:
    ratios = ([0.4, -1.0, 3.0], [0.1, 2.0, -2.0])
    good, bad = (
        kto(labels(side, [desirable] * 3, 0.0), beta=0.3, desirable_weight=1.0, undesirable_weight=1.0)
        for side, desirable in zip(ratios, (True, False), strict=True)
    )
    equal(apo_zero(pairs(*ratios), beta=0.3), good + bad)


def test_apo_down_lowers_the_rejected_answer_first_then_both() -> None:
    """At the reference the chosen answer rests; once the rejected one has fallen, it falls, too; far away neither."""

    def down(batch: Pairs) -> Tensor:
        return apo_down(batch, beta=0.1)

    assert slope_of(down, 0.0, 0.0) == pytest.approx((0.0, 0.025), abs=1e-12)
    assert slope_of(down, 0.0, -400.0) == pytest.approx((0.025, 0.0), abs=1e-12)
    assert slope_of(down, -400.0, -800.0) == pytest.approx((0.0, 0.0), abs=1e-12)
    # APO-zero of the same pairs raises the chosen answer.
    assert slope_of(lambda batch: apo_zero(batch, beta=0.1), 0.0, -400.0) == pytest.approx((-0.025, 0.0), abs=1e-12)


def test_nca_raises_a_chosen_answer_that_fell_and_stops() -> None:
    """In ρ_w the slope is −β far behind, 0 at βρ_w = log 2, β/2 far beyond; in ρ_l it is between 0 and β/2."""

    def nca(batch: Pairs) -> Tensor:
        return nca_pair(batch, beta=0.1)

    for chosen, slope in ((-400.0, -0.1), (LOG_2 / 0.1, 0.0), (400.0, 0.05)):
        assert slope_of(nca, chosen)[0] == pytest.approx(slope, abs=1e-12)
    for rejected, slope in ((-400.0, 0.0), (0.0, 0.025), (400.0, 0.05)):
        assert slope_of(nca, 0.0, rejected)[1] == pytest.approx(slope, abs=1e-12)
    # DPO is content with a chosen answer that fell by 300 nats, the rejected one having fallen by 700.
    assert slope_of(lambda batch: sigmoid(batch, beta=0.1), -300.0, -700.0)[0] == pytest.approx(0, abs=1e-12)
    assert slope_of(nca, -300.0, -700.0)[0] == pytest.approx(-0.1, abs=1e-12)


def test_sppo_is_ipo_and_a_spring_on_the_sum() -> None:
    """½(Δ − (1+δ)/β)² + ½(ρ_w + ρ_l)²: IPO's target with τ = β/2 is 1/β, and its margin δ/2 moves that by δ/β."""
    batch = token_pairs(16)
    ipo_part = ipo_sum(replace(batch, margin=batch.margin / 2), tau=0.15)
    total = batch.chosen.log_ratio + batch.rejected.log_ratio
    equal(sppo_hard(batch, beta=0.3), (ipo_part + total.square()) / 2)


def test_bco_is_never_below_dpo_and_closest_in_the_middle_of_the_pair() -> None:
    """With s = (ρ_w + ρ_l)/2 it is twice DPO at β/2, margin halved: −2 log σ((βΔ − δ)/2); any other s costs more."""
    batch = token_pairs(16)
    middles = (batch.chosen.log_ratio + batch.rejected.log_ratio) / 2
    middle = bco_pair(replace(batch, shift=middles), beta=0.3)
    equal(middle, 2 * sigmoid(replace(batch, margin=batch.margin / 2), beta=0.15))
    for shift in (-40.0, -1.0, 0.5, 40.0):
        away = bco_pair(replace(batch, shift=middles + shift), beta=0.3)
        assert (away > middle).all()
        assert (away >= sigmoid(batch, beta=0.3)).all()
    assert (middle >= sigmoid(batch, beta=0.3)).all()


def test_mpo_without_one_of_its_parts_is_the_others() -> None:
    batch = replace(token_pairs(16), shift=f64([0.7])[0])

    def mixed(preference: float, quality: float, generation: float) -> Tensor:
        weights = {"preference_weight": preference, "quality_weight": quality, "generation_weight": generation}
        return mpo(batch, beta=0.3, **weights)

    equal(mixed(1, 0, 0.7), dpo_nll(batch, beta=0.3, nll_alpha=0.7))
    equal(mixed(0, 1, 0), bco_pair(batch, beta=0.3))
    equal(mixed(0, 0, 1), -batch.chosen.mean_logp)


def test_nca_is_half_of_bco_and_half_of_what_holds_the_chosen_answer() -> None:
    """NCA without shift: ½ BCO + ½(−log σ(a) − log σ(−a)), whose minimum is at a = 0."""
    batch = token_pairs(16)
    itself = replace(batch, rejected=batch.chosen, margin=torch.zeros_like(batch.margin))
    moved = replace(batch.chosen, policy_logp_sum=batch.chosen.policy_logp_sum - batch.margin / 2 / 0.3)
    held = bco_pair(replace(itself, chosen=moved, rejected=moved), beta=0.3)
    equal(nca_pair(batch, beta=0.3), (bco_pair(batch, beta=0.3) + held) / 2)


def test_wpo_leaves_what_the_policy_would_write_alone() -> None:
    """Where every token is as likely as a sample's would be, the weight is 1."""
    batch = token_pairs(8)
    sides = [replace(side, policy_token_collision=side.policy_token_logp) for side in (batch.chosen, batch.rejected)]
    equal(wpo_weight(replace(batch, chosen=sides[0], rejected=sides[1])), f64([1.0] * 8))


def test_ipo_of_single_tokens_is_the_sum() -> None:
    batch = pairs([0.4, -1.0], [0.1, 2.0], margin=[0.0, 0.3])
    equal(ipo(batch, tau=0.2), ipo_sum(batch, tau=0.2))


def test_ld_dpo_of_equal_lengths_is_dpo() -> None:
    batch = token_pairs(16)
    same = replace(batch, chosen=batch.chosen, rejected=replace(batch.rejected, length=batch.chosen.length))
    inside = (torch.arange(7) < same.chosen.length[:, None]).double()
    cut = replace(
        same.rejected,
        policy_token_logp=same.rejected.policy_token_logp * inside,
        reference_token_logp=same.rejected.reference_token_logp * inside,
        policy_logp_sum=(same.rejected.policy_token_logp * inside).sum(1),
        reference_logp_sum=(same.rejected.reference_token_logp * inside).sum(1),
    )
    same = replace(same, rejected=cut)
    equal(ld_dpo(same, beta=0.1, ld_alpha=0.2), sigmoid(same, beta=0.1))


@pytest.mark.parametrize("loss", [name for name, spec in SPECS.items() if "margin" in spec.signals])
def test_a_margin_asks_for_more(loss: str) -> None:
    """Every pairwise loss is larger with a margin than without, unless the pair is far ahead or past IPO's target."""
    plain = pairs([0.2, 0.1], [-0.1, 0.0])
    asked = replace(plain, margin=f64([0.5, 1.0]))
    settings = defaults(loss)
    assert (LOSSES[loss](asked, **settings) > LOSSES[loss](plain, **settings)).all()


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_the_reference_is_not_read(loss: str) -> None:
    batch = token_pairs()
    other = replace(
        batch,
        chosen=replace(
            batch.chosen,
            reference_logp_sum=batch.chosen.reference_logp_sum - 5,
            reference_token_logp=batch.chosen.reference_token_logp - 1,
        ),
    )
    equal(LOSSES[loss](batch, **defaults(loss)), LOSSES[loss](other, **defaults(loss)))
    assert not SPECS[loss].reference


@pytest.mark.parametrize("nats", [0.0, -1e-12, -1e-7, -0.5, -0.7, -50.0, -2000.0])
def test_orpo_is_finite_for_certain_and_for_hopeless_answers(nats: float) -> None:
    chosen = torch.tensor([nats], dtype=torch.float64, requires_grad=True)
    batch = pairs([0.0], [0.0])
    moved = replace(batch, chosen=replace(batch.chosen, policy_logp_sum=chosen))
    loss = orpo(moved, orpo_lambda=0.1)
    (slope,) = torch.autograd.grad(loss.sum(), chosen)
    assert math.isfinite(float(loss.detach()))
    assert math.isfinite(float(slope))


def test_every_loss_is_known_with_exactly_the_settings_it_reads() -> None:
    assert list(LOSSES) == list(SPECS)
    for name, function in LOSSES.items():
        keywords = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert keywords == set(LOSS_SETTINGS[name]), name
