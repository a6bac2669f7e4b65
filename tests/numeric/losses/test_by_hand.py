"""Every loss against values worked out by hand; each docstring has the derivation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.factories.models import random_model
from tests.numeric.losses.making import f64, labels, pairs, rankings, side
from worker.trainer.forward import Forward
from worker.trainer.losses import LOSSES, Pairs
from worker.trainer.losses.apo_down import apo_down
from worker.trainer.losses.apo_zero import apo_zero
from worker.trainer.losses.bco_pair import bco_pair
from worker.trainer.losses.cdpo import cdpo
from worker.trainer.losses.davidson import davidson
from worker.trainer.losses.discopop import discopop
from worker.trainer.losses.dpo_nll import dpo_nll
from worker.trainer.losses.dpop import dpop
from worker.trainer.losses.exo_pair import exo_pair
from worker.trainer.losses.hinge import hinge
from worker.trainer.losses.ipo import ipo, ipo_sum
from worker.trainer.losses.kto import baseline, kto
from worker.trainer.losses.ld_dpo import ld_dpo
from worker.trainer.losses.length_normalised import length_normalised
from worker.trainer.losses.mpo import mpo
from worker.trainer.losses.nca_pair import nca_pair
from worker.trainer.losses.orpo import orpo
from worker.trainer.losses.plackett_luce import plackett_luce
from worker.trainer.losses.rao_kupper import rao_kupper
from worker.trainer.losses.rdpo import rdpo
from worker.trainer.losses.robust import robust
from worker.trainer.losses.sigmoid import sigmoid
from worker.trainer.losses.simpo import simpo
from worker.trainer.losses.sppo_hard import sppo_hard
from worker.trainer.losses.wpo import wpo_weight
from worker.trainer.moving import MovingReference

LOG_1_E_MINUS_HALF = 0.4740769842
"""log(1 + e^−0.5) = log 1.6065306597: the loss of d = 0.5; that of d = −0.5 is larger by 0.5."""


def check(losses: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(losses, f64(expected), rtol=0, atol=1e-9)


def test_sigmoid() -> None:
    """ρ_w = 2, ρ_l = −3, β = 0.1: Δ = 5, d = 0.5, −log σ(0.5) = log(1 + e^−0.5) = 0.4740769842.

    ρ_w = −3, ρ_l = 2: d = −0.5, log(1 + e^0.5) = 0.4740769842 + 0.5.
    """
    check(sigmoid(pairs([2, -3], [-3, 2]), beta=0.1), [LOG_1_E_MINUS_HALF, LOG_1_E_MINUS_HALF + 0.5])


def test_margin_is_the_offset_of_odpo() -> None:
    """d = 0.5 and δ = 1: −log σ(0.5 − 1) = log(1 + e^0.5); δ = 0.5: −log σ(0) = log 2."""
    losses = sigmoid(pairs([2, 2], [-3, -3], margin=[1, 0.5]), beta=0.1)
    check(losses, [LOG_1_E_MINUS_HALF + 0.5, math.log(2)])


def test_dpop() -> None:
    """β = 0.3, λ = 50.

    ρ_w = −0.1, ρ_l = −0.5: Δ = 0.4, penalty 50·0.1 = 5, argument 0.3·(0.4 − 5) = −1.38,
    −log σ(−1.38) = log(1 + e^1.38) = log 4.974901627 = 1.6044055…
    ρ_w = 0.1, ρ_l = −0.5: no penalty, argument 0.3·0.6 = 0.18, log(1 + e^−0.18) = log 1.835270211 = 0.6071917…
    """
    expected = [math.log(1 + math.exp(1.38)), math.log(1 + math.exp(-0.18))]
    assert expected == pytest.approx([1.604405, 0.607191], abs=1e-5)
    check(dpop(pairs([-0.1, 0.1], [-0.5, -0.5]), beta=0.3, dpop_lambda=50), expected)


def test_dpop_keeps_the_penalty_inside_the_logistic() -> None:
    """ρ_w = ρ_l = −1: the argument is β·(0 − λ) = −15, the loss log(1 + e^15) ≈ 15.0000003.

    With λ outside the logistic the loss would be log 2 + 50 (or + 15, if β reached it), and its slope in ρ_l nothing
    like β·σ(15).
    """
    rejected = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = dpop(Pairs(side(zero - 1, zero), side(rejected, zero), zero), beta=0.3, dpop_lambda=50)
    (slope,) = torch.autograd.grad(loss.sum(), rejected)
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(15)))
    assert float(slope) == pytest.approx(0.3 / (1 + math.exp(-15)))


def test_ipo() -> None:
    """ρ_w/|y_w| = 2/4, ρ_l/|y_l| = −3/6: a difference of 1 a token. τ = 0.25: target 2, (1 − 2)² = 1.

    δ = 0.5 moves the target by δ/τ = 2 to 4: (1 − 4)² = 9.
    """
    batch = pairs([2, 2], [-3, -3], lengths=([4, 4], [6, 6]), margin=[0, 0.5])
    check(ipo(batch, tau=0.25), [1, 9])


def test_ipo_sum() -> None:
    """Δ = 5, τ = 0.25: target 2, (5 − 2)² = 9; with δ = 0.5 target 4, (5 − 4)² = 1. Lengths are not read."""
    batch = pairs([2, 2], [-3, -3], lengths=([4, 4], [6, 6]), margin=[0, 0.5])
    check(ipo_sum(batch, tau=0.25), [9, 1])


def test_hinge() -> None:
    """β = 0.1. Δ = 5: 1 − 0.5. Δ = 20: 1 − 2 < 0. Δ = 20, δ = 1.5: 1 + 1.5 − 2 = 0.5."""
    check(hinge(pairs([2, 10, 10], [-3, -10, -10], margin=[0, 0, 1.5]), beta=0.1), [0.5, 0, 0.5])


def test_cdpo() -> None:
    """d = 0.5, ε = 0.1: 0.9·0.4740769842 + 0.1·0.9740769842 = 0.5240769842.

    δ = 1: right −log σ(−0.5) = 0.9740769842, flipped −log σ(−1.5) = log(1 + e^1.5) = 1.7014132779,
    0.9·0.9740769842 + 0.1·1.7014132779 = 1.0468106136.
    """
    batch = pairs([2, 2], [-3, -3], margin=[0, 1])
    check(cdpo(batch, beta=0.1, label_smoothing=0.1), [0.5240769842, 1.0468106136])


def test_robust() -> None:
    """d = 0.5, ε = 0.1: (0.9·0.4740769842 − 0.1·0.9740769842)/0.8 = 0.3292615874/0.8 = 0.4115769842.

    δ = 1: (0.9·0.9740769842 − 0.1·1.7014132779)/0.8 = 0.7065279580/0.8 = 0.8831599475.
    """
    batch = pairs([2, 2], [-3, -3], margin=[0, 1])
    check(robust(batch, beta=0.1, label_smoothing=0.1), [0.4115769842, 0.8831599475])


def test_exo_pair() -> None:
    """β = 1, ε = ¼. Δ = log 3: σ(log 3) = ¾ = 1 − ε, the minimum: ¾·log(¾/¾) + ¼·log(¼/¼) = 0.

    Δ = −log 3: ¼·log(¼/¾) + ¾·log(¾/¼) = (¾ − ¼)·log 3. Δ = log 3 with δ = 2 log 3 is the same.
    Δ = 0: ½·log(½/¾) + ½·log(½/¼) = ½·log(⅔·2) = ½·log(4/3).
    """
    three = math.log(3)
    batch = pairs([three, 0, three, 1], [0, three, 0, 1], margin=[0, 0, 2 * three, 0])
    check(exo_pair(batch, beta=1.0, label_smoothing=0.25), [0, three / 2, three / 2, math.log(4 / 3) / 2])


def test_discopop() -> None:
    """β = 1, τ = ½. x = log 2: σ(2 log 2) = ⅘, −log σ(log 2) = log(3/2), e^−x = ½: ⅕·log(3/2) + ⅘·½.

    x = −log 2: σ(−2 log 2) = ⅕, −log σ(−log 2) = log 3, e^−x = 2: ⅘·log 3 + ⅕·2; δ = 2 log 2 makes it of the first.
    """
    two = math.log(2)
    behind = 0.8 * math.log(3) + 0.4
    batch = pairs([two, 0, two], [0, two, 0], margin=[0, 0, 2 * two])
    check(discopop(batch, beta=1.0, discopop_tau=0.5), [0.2 * math.log(1.5) + 0.4, behind, behind])


def test_length_normalised() -> None:
    """2/4 − (−3/6) = 1, β = 5: log(1 + e^−5) = 0.0067153485; δ = 5: log 2."""
    batch = pairs([2, 2], [-3, -3], lengths=([4, 4], [6, 6]), margin=[0, 5])
    check(length_normalised(batch, beta=5.0), [0.0067153485, math.log(2)])


def test_ld_dpo() -> None:
    """Token log-ratios (1, 1) of the chosen and (−1, −0.5, −2, −4) of the rejected answer, m = 2, α = 0.5.

    Chosen 2; rejected −1.5 + 0.5·(−6) = −4.5; Δ = 6.5, d = 0.65, log(1 + e^−0.65) = log 1.5220457768 = 0.4200552795.
    """
    zero = torch.zeros(1, 4, dtype=torch.float64)
    chosen = side(f64([1, 1, 0, 0])[None], zero, f64([2]))
    rejected = side(f64([-1, -0.5, -2, -4])[None], zero, f64([4]))
    expected = math.log(1 + math.exp(-0.65))
    assert expected == pytest.approx(0.42005528)
    check(ld_dpo(Pairs(chosen, rejected, f64([0])), beta=0.1, ld_alpha=0.5), [expected])


def test_rdpo() -> None:
    """d = 0.5, the chosen answer 20 tokens longer, α = 0.01: 0.5 + 0.2 = 0.7, log(1 + e^−0.7) = 0.4031860…

    20 tokens shorter: 0.5 − 0.2 = 0.3, log(1 + e^−0.3) = 0.5543552…
    """
    batch = pairs([2, 2], [-3, -3], lengths=([30, 10], [10, 30]))
    expected = [math.log(1 + math.exp(-0.7)), math.log(1 + math.exp(-0.3))]
    assert expected == pytest.approx([0.403186, 0.554355], abs=1e-6)
    check(rdpo(batch, beta=0.1, length_alpha=0.01), expected)


def test_dpo_nll() -> None:
    """ℓ_w = −20 + 2 = −18 over 9 tokens: 2 nats a token. α = 0.5: 0.4740769842 + 0.5·2."""
    check(dpo_nll(pairs([2], [-3], lengths=([9], [5])), beta=0.1, nll_alpha=0.5), [LOG_1_E_MINUS_HALF + 1])


def test_simpo() -> None:
    """ℓ_w/|y_w| = −6/3 = −2, ℓ_l/|y_l| = −12/4 = −3, β = 2: 2 − γ = 2 − 1 = 1, log(1 + e^−1) = 0.3132616875.

    δ = 1 more: log 2. The reference, −20 nats, is not read.
    """
    batch = pairs([14, 14], [8, 8], lengths=([3, 3], [4, 4]), margin=[0, 1])
    check(simpo(batch, beta=2.0, gamma=1.0), [0.3132616875, math.log(2)])


def test_orpo() -> None:
    """P_w = ½ (ℓ/|y| = −log 2), odds 1; P_l = ¼, odds ⅓; log odds ratio log 3, σ(log 3) = ¾.

    log 2 − 0.1·log ¾ = 0.6931471806 + 0.0287682072 = 0.7219153878. δ = log 3: log 2 + 0.1·log 2.
    """
    zero = torch.zeros(2, dtype=torch.float64)
    chosen, rejected = side(zero - 2 * math.log(2), zero, f64([2, 2])), side(zero - 3 * math.log(4), zero, f64([3, 3]))
    losses = orpo(Pairs(chosen, rejected, f64([0, math.log(3)])), orpo_lambda=0.1)
    check(losses, [0.7219153878, 1.1 * math.log(2)])


def test_kto() -> None:
    """β = 0.1, z0 = 1. Good, ρ = 3: 1.2·(1 − σ(0.2)) = 1.2·0.4501660027 = 0.5401992032.

    Bad, ρ = −2: 1 − σ(β(1 + 2)) = 1 − σ(0.3) = 0.4255574832.
    """
    batch = labels([3, -2], [True, False], baseline=1.0)
    check(kto(batch, beta=0.1, desirable_weight=1.2, undesirable_weight=1.0), [0.5401992032, 0.4255574832])


def test_kto_point_of_reference() -> None:
    """z0 of ρ = −1, 2, 2 is their mean 1; of −1, −2 it is 0, for a KL is never negative. No gradient flows into it."""
    ratios = f64([-1, 2, 2]).requires_grad_()
    z0 = baseline(ratios)
    assert float(z0) == 1
    assert not z0.requires_grad
    assert float(baseline(f64([-1, -2]))) == 0


def test_apo_zero() -> None:
    """β = 0.1, ρ_w = 2, ρ_l = −3: 1 − σ(0.2) + σ(−0.3) = 0.4501660027 + 0.4255574832 = 0.8757234859.

    δ = 1: 1 − σ(0.2 − 0.5) + σ(−0.3 + 0.5) = 0.5744425168 + 0.5498339973 = 1.1242765141.
    """
    check(apo_zero(pairs([2, 2], [-3, -3], margin=[0, 1]), beta=0.1), [0.8757234859, 1.1242765141])


def test_apo_down() -> None:
    """β = 1, ρ_w = log 3, Δ = log 4: σ(log 3) = ¾, σ(log 4) = ⅘: ¾ + 1 − ⅘ = 0.95. δ = log 4: ¾ + 1 − ½ = 1.25."""
    three, four = math.log(3), math.log(4)
    check(apo_down(pairs([three, three], [three - four] * 2, margin=[0, four]), beta=1.0), [0.95, 1.25])


def test_nca_pair() -> None:
    """β = 1, ρ_w = log 2, ρ_l = −log 3: σ(a) = ⅔, σ(−a) = ⅓, σ(−b) = ¾: log(3/2) + ½·log 3 + ½·log(4/3).

    δ = 2 log 2: a = 0, b = −log 3 + log 2 and σ(−b) = 3/(3+2): log 2 + ½·log 2 + ½·log(5/3).
    """
    two, three = math.log(2), math.log(3)
    expected = [math.log(3 / 2) + three / 2 + math.log(4 / 3) / 2, 1.5 * two + math.log(5 / 3) / 2]
    check(nca_pair(pairs([two, two], [-three, -three], margin=[0, 2 * two]), beta=1.0), expected)


def test_bco_pair() -> None:
    """β = ½, s = 2, ρ_w = 2 + 2 log 3, ρ_l = 2 − 2 log 2: σ(log 3) = ¾ and σ(log 2) = ⅔: log(4/3) + log(3/2) = log 2.

    δ = 2 log 3: chosen σ(0) = ½, rejected σ(log 2 − log 3) = 2/(2+3): log 2 + log(5/2) = log 5.
    Without a shift, ρ_w = 2 log 3 and ρ_l = −2 log 2: log 2 again.
    """
    two, three = 2 * math.log(2), 2 * math.log(3)
    batch = pairs([2 + three] * 2, [2 - two] * 2, margin=[0, three])
    check(bco_pair(replace(batch, shift=f64([2])[0]), beta=0.5), [math.log(2), math.log(5)])
    check(bco_pair(pairs([three], [-two]), beta=0.5), [math.log(2)])


def test_mpo() -> None:
    """BCO's first pair above: ρ_w = 2 + 2 log 3, ρ_l = 2 − 2 log 2, β = ½: βΔ = log 3 + log 2, σ = 6/7: log(7/6).

    ½·log(7/6) + 2·log 2 + 0.1·(18 − 2 log 3)/9, the chosen answer having −20 + 2 + 2 log 3 nats over 9 tokens.
    δ = 2 log 3: σ(log 6 − 2 log 3) = σ(log ⅔) = 2/5: ½·log(5/2) + 2·log 5 + the same.
    """
    two, three = 2 * math.log(2), 2 * math.log(3)
    batch = pairs([2 + three] * 2, [2 - two] * 2, lengths=([9, 9], [5, 5]), margin=[0, three])
    losses = mpo(
        replace(batch, shift=f64([2])[0]), beta=0.5, preference_weight=0.5, quality_weight=2.0, generation_weight=0.1
    )
    written = 0.1 * (18 - three) / 9
    check(losses, [0.5 * math.log(7 / 6) + two + written, 0.5 * math.log(5 / 2) + 2 * math.log(5) + written])


def test_sppo_hard() -> None:
    """β = 0.25: targets 2 and −2. ρ_w = 3, ρ_l = 1: (3 − 2)² + (1 + 2)² = 10.

    δ = 1 moves them to 4 and −4: (3 − 4)² + (1 + 4)² = 26.
    """
    check(sppo_hard(pairs([3, 3], [1, 1], margin=[0, 1]), beta=0.25), [10, 26])


def test_rao_kupper() -> None:
    """ν = 3, d = log 3: σ(d−α) = σ(0) = ½, so a win costs log 2.

    The other wins with σ(−d−α) = σ(−log 9) = 1/10; a tie has the rest, 4/10 = (ν²−1)·½·1/10: log 2.5.
    A margin δ = log 3 of the win: σ(−log 3) = ¼, log 4; a tie does not read it.
    """
    batch = pairs([math.log(3)] * 4, [0] * 4, margin=[0, 0, math.log(3), math.log(3)], tie=[False, True, False, True])
    expected = [math.log(2), math.log(2.5), math.log(4), math.log(2.5)]
    check(rao_kupper(batch, beta=1.0, nu=3.0), expected)


def test_davidson() -> None:
    """ν = 1, d = log 4: Z = 1 + ¼ + 2·½ = 9/4. A win 4/9, a loss 1/9, a tie 4/9, together 1.

    A margin δ = log 4 of the win: Z(0) = 4; a tie does not read it.
    """
    batch = pairs([math.log(4)] * 4, [0] * 4, margin=[0, 0, math.log(4), math.log(4)], tie=[False, True, False, True])
    expected = [math.log(9 / 4), math.log(9 / 4), math.log(4), math.log(9 / 4)]
    check(davidson(batch, beta=1.0, nu=1.0), expected)


def test_plackett_luce() -> None:
    """Scores log 3, log 2, log 1: the best of three with 3/6, the second of two with 2/3: 1/3, so log 3.

    The lowest first: 1/6 · 2/5 (log 2 before log 3) = 1/15: log 15. Two alone, log 3 before log 1: 3/4.
    """
    one, two, three = math.log(1), math.log(2), math.log(3)
    batch = rankings([[three, two, one], [one, two, three], [three, one]], [[0, 1, 2], [0, 1, 2], [0, 1]])
    check(plackett_luce(batch, beta=1.0), [math.log(3), math.log(15), math.log(4 / 3)])


def test_plackett_luce_sums_over_the_orders_of_equals() -> None:
    """Scores log 3 and log 2 equal, before log 1: 3/6·2/3 + 2/6·3/4 = 1/3 + 1/4 = 7/12, so log(12/7).

    log 3 first and the others equal: 3/6, for the order of the last is unknown. All three equal: certain, 0.
    """
    one, two, three = math.log(1), math.log(2), math.log(3)
    batch = rankings([[three, two, one]] * 3, [[0, 0, 1], [0, 1, 1], [0, 0, 0]])
    check(plackett_luce(batch, beta=1.0), [math.log(12 / 7), math.log(2), 0])


def test_wpo_weight() -> None:
    """Chosen: tokens −1, −2 against log Σ p² of −0.5, −1.5: mean −0.5, w = e^−0.5. Rejected as expected: w = 1.

    Answers likelier than a sample would be: e^0.5 · e^0.5, held at 1.
    """
    zero = torch.zeros(2, 2, dtype=torch.float64)
    rows = f64([-1, -2]).expand(2, 2)
    chosen = side(rows, zero, f64([2, 2]), f64([-0.5, -1.5, -1.5, -2.5]).view(2, 2))
    rejected = side(rows, zero, f64([2, 2]), f64([-1, -2, -1.5, -2.5]).view(2, 2))
    check(wpo_weight(Pairs(chosen, rejected, f64([0, 0]))), [math.exp(-0.5), 1])


def test_moving_reference() -> None:
    """α = 0.6 every 2 steps, from a reference of 0 to a policy of 1: 0 after step 1, 0.6·1 + 0.4·0 = 0.6 after step 2,
    0.6·1 + 0.4·0.6 = 0.84 after step 4.
    """
    policy, held = random_model("llama"), random_model("llama")
    for model, value in ((policy, 1.0), (held, 0.0)):
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, value)
    reference = MovingReference(held, Forward(held), steps=2, alpha=0.6)
    for step, expected in enumerate([0, 0.6, 0.6, 0.84], start=1):
        assert reference.after_step(step, policy) is (step % 2 == 0)
        assert all((parameter - expected).abs().max() < 1e-6 for parameter in held.parameters())


def test_every_loss_is_worked_out() -> None:
    assert {f"test_{loss}" for loss in LOSSES} <= globals().keys()
