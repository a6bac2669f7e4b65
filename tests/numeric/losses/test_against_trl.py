"""Where TRL defines the same loss, its own code on the same log-probs gives the same value.

Its methods are called unbound, on a stand-in for the trainer that has the attributes they read, and with a stand-in
for the model that answers with our log-probs.
"""

import copy
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.factories.models import random_model
from tests.numeric.losses.making import token_pairs
from worker.trainer.forward import Forward
from worker.trainer.losses import LOSSES, Labels, Pairs, Side
from worker.trainer.losses.kto import baseline, kto
from worker.trainer.losses.orpo import orpo
from worker.trainer.losses.wpo import wpo_weight
from worker.trainer.moving import MovingReference

# TRL warns of its own affairs while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore")


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)


def in_fp32(batch: Pairs) -> Pairs:
    def cast(side: Side) -> Side:
        return Side(
            *(x.float() for x in (side.policy_logp_sum, side.reference_logp_sum, side.length)),
            side.policy_token_logp.float(),
            side.reference_token_logp.float(),
            side.policy_token_collision.float(),
        )

    return Pairs(cast(batch.chosen), cast(batch.rejected), batch.margin.float())


def completion_mask(*sides: Side) -> Tensor:
    """(sum of batches, 1 + longest): one token of prompt, then the completions."""
    rows = [torch.arange(8) - 1 < side.length[:, None] for side in sides]
    mask = torch.cat(rows).long()
    mask[:, 0] = 0
    return mask


class Model:
    """Answers a forward pass with the given log-probs, whatever it is asked."""

    def __init__(self, logps: Tensor, collisions: Tensor | None = None) -> None:
        zero = torch.zeros_like(logps)
        self.answer = SimpleNamespace(
            log_probs=logps, log_sum_sq_probs=collisions, entropy=zero, mean_logits=zero, is_top1=zero.bool()
        )
        self.training = False

    def __call__(self, **_: Any) -> SimpleNamespace:
        return self.answer


def trl_dpo(batch: Pairs, **settings: Any) -> float:
    """The mean loss of TRL's DPOTrainer; ``settings`` are its attributes."""
    from trl import DPOTrainer

    logps = torch.cat([batch.chosen.policy_token_logp, batch.rejected.policy_token_logp])
    collisions = torch.cat([batch.chosen.policy_token_collision, batch.rejected.policy_token_collision])
    mask = completion_mask(batch.chosen, batch.rejected)
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": mask, "completion_mask": mask}
    references = []
    for side in (batch.chosen, batch.rejected):
        tokens = side.reference_token_logp
        if settings.get("ld_alpha") is not None:  # TRL weighs the reference's tokens when it precomputes their sum
            shared = torch.minimum(batch.chosen.length, batch.rejected.length)[:, None]
            tokens = torch.where(torch.arange(7) < shared, tokens, settings["ld_alpha"] * tokens)
        references.append(tokens.sum(1))
    inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = references
    model = Model(logps, collisions)
    attributes = {
        "ld_alpha": None,
        "label_smoothing": 0.0,
        "loss_weights": [1.0],
        "use_weighting": False,
        "f_divergence_type": "reverse_kl",
        "precompute_ref_logps": True,
        "aux_loss_enabled": False,
        "accelerator": accelerator(),
        "model": model,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return float(DPOTrainer._compute_loss(SimpleNamespace(**attributes | settings), model, inputs, False))


NOT_IN_TRL = {"dpop", "rdpo", "rao_kupper", "davidson", "plackett_luce"}
"""TRL has no such loss; these are held to hand-derived values and to the second implementation alone."""

ELSEWHERE = {"dpo_nll", "mpo", "cdpo", "simpo", "ipo_sum", "orpo", "kto"}
"""Compared in a test of their own below."""

SAME = [
    ("sigmoid", {"beta": 0.3}, {"loss_types": ["sigmoid"], "beta": 0.3}),
    ("hinge", {"beta": 0.3}, {"loss_types": ["hinge"], "beta": 0.3}),
    ("ipo", {"tau": 0.3}, {"loss_types": ["ipo"], "beta": 0.3}),
    (
        "robust",
        {"beta": 0.3, "label_smoothing": 0.2},
        {"loss_types": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
    ),
    (
        "exo_pair",
        {"beta": 0.3, "label_smoothing": 0.2},
        {"loss_types": ["exo_pair"], "beta": 0.3, "label_smoothing": 0.2},
    ),
    (
        "discopop",
        {"beta": 0.3, "discopop_tau": 0.2},
        {"loss_types": ["discopop"], "beta": 0.3, "args": SimpleNamespace(discopop_tau=0.2)},
    ),
    ("length_normalised", {"beta": 3.0}, {"loss_types": ["sigmoid_norm"], "beta": 3.0}),
    ("ld_dpo", {"beta": 0.3, "ld_alpha": 0.4}, {"loss_types": ["sigmoid"], "beta": 0.3, "ld_alpha": 0.4}),
    ("apo_zero", {"beta": 0.3}, {"loss_types": ["apo_zero"], "beta": 0.3}),
    ("apo_down", {"beta": 0.3}, {"loss_types": ["apo_down"], "beta": 0.3}),
    ("nca_pair", {"beta": 0.3}, {"loss_types": ["nca_pair"], "beta": 0.3}),
    ("bco_pair", {"beta": 0.3}, {"loss_types": ["bco_pair"], "beta": 0.3}),
    ("sppo_hard", {"beta": 0.3}, {"loss_types": ["sppo_hard"], "beta": 0.3}),
]


@pytest.mark.parametrize(("loss", "ours", "theirs"), SAME, ids=[case[0] for case in SAME])
def test_dpo_trainer(loss: str, ours: dict[str, float], theirs: dict[str, Any]) -> None:
    batch = in_fp32(token_pairs(12, seed=5, margins=False))
    value = float(LOSSES[loss](batch, **ours).mean())
    assert value == pytest.approx(trl_dpo(batch, **theirs), abs=1e-5)
    assert value != pytest.approx(float(LOSSES["sigmoid"](batch, beta=0.31).mean()), abs=1e-4)


def test_bco_with_a_shift() -> None:
    """TRL has none in this version; a shift of s is a reference that gives every answer s nats more."""
    batch = in_fp32(token_pairs(12, seed=5, margins=False))
    ours = float(LOSSES["bco_pair"](replace(batch, shift=torch.tensor(1.5)), beta=0.3).mean())

    def shifted(side: Side) -> Side:
        tokens = side.reference_token_logp.clone()
        tokens[:, 0] += 1.5
        return replace(side, reference_token_logp=tokens)

    theirs = replace(batch, chosen=shifted(batch.chosen), rejected=shifted(batch.rejected))
    assert ours == pytest.approx(trl_dpo(theirs, loss_types=["bco_pair"], beta=0.3), abs=1e-5)
    assert ours != pytest.approx(trl_dpo(batch, loss_types=["bco_pair"], beta=0.3), abs=1e-3)


def test_dpo_with_nll() -> None:
    """TRL averages the NLL over the tokens of a batch, we over each answer's: the same for a pair at a time."""
    for seed in range(4):
        pair = in_fp32(token_pairs(1, seed=seed, margins=False))
        theirs = trl_dpo(pair, loss_types=["sigmoid", "sft"], loss_weights=[1.0, 0.7], beta=0.3)
        assert float(LOSSES["dpo_nll"](pair, beta=0.3, nll_alpha=0.7)) == pytest.approx(theirs, abs=1e-5)


def test_mpo() -> None:
    """As it is mixed there, a pair at a time for the sake of the likelihood, and without a shift."""
    weights = {"preference_weight": 0.7, "quality_weight": 0.4, "generation_weight": 0.9}
    for seed in range(4):
        pair = in_fp32(token_pairs(1, seed=seed, margins=False))
        theirs = trl_dpo(pair, loss_types=["sigmoid", "bco_pair", "sft"], loss_weights=[0.7, 0.4, 0.9], beta=0.3)
        assert float(LOSSES["mpo"](pair, beta=0.3, **weights)) == pytest.approx(theirs, abs=1e-5)


def test_wpo() -> None:
    """TRL lets a weight exceed 1; below, it is ours."""
    compared = 0
    for seed in range(12):
        pair = in_fp32(token_pairs(1, seed=seed, margins=False))
        weight = wpo_weight(pair)
        if float(weight) == 1:
            continue
        ours = float(LOSSES["hinge"](pair, beta=0.3) * weight)
        assert ours == pytest.approx(trl_dpo(pair, loss_types=["hinge"], beta=0.3, use_weighting=True), abs=1e-5)
        compared += 1
    assert compared >= 3


def test_conservative_dpo_simpo_and_summed_ipo() -> None:
    """TRL's CPOTrainer has label smoothing, which on log-ratios is cDPO, SimPO on mean log-probs, and IPO on sums."""
    from trl.experimental.cpo import CPOTrainer

    batch = token_pairs(12, seed=5, margins=False)

    def cpo(chosen: Tensor, rejected: Tensor, **settings: Any) -> Tensor:
        attributes = {"alpha": 0.0, "label_smoothing": 0.0, "accelerator": accelerator()}
        losses: Tensor = CPOTrainer.cpo_loss(SimpleNamespace(**attributes | settings), chosen, rejected)[0]
        return losses

    theirs = cpo(batch.chosen.log_ratio, batch.rejected.log_ratio, loss_type="sigmoid", beta=0.3, label_smoothing=0.2)
    torch.testing.assert_close(LOSSES["cdpo"](batch, beta=0.3, label_smoothing=0.2), theirs)
    theirs = cpo(batch.chosen.mean_logp, batch.rejected.mean_logp, loss_type="simpo", beta=2.5, simpo_gamma=0.8)
    torch.testing.assert_close(LOSSES["simpo"](batch, beta=2.5, gamma=0.8), theirs)
    theirs = cpo(batch.chosen.log_ratio, batch.rejected.log_ratio, loss_type="ipo", beta=0.3)
    torch.testing.assert_close(LOSSES["ipo_sum"](batch, tau=0.3), theirs)


def test_orpo() -> None:
    """The odds ratio; TRL's likelihood term counts prompt tokens too, ours the completion's alone (eq. 6)."""
    from trl.experimental.orpo import ORPOTrainer

    batch = in_fp32(token_pairs(12, seed=5, margins=False))
    stand_in = SimpleNamespace(beta=0.3, accelerator=accelerator())
    ratio = ORPOTrainer.odds_ratio_loss(stand_in, batch.chosen.mean_logp, batch.rejected.mean_logp)[0]
    torch.testing.assert_close(orpo(batch, orpo_lambda=0.3), -batch.chosen.mean_logp - ratio, rtol=0, atol=1e-5)


@pytest.mark.parametrize("drift", [-0.5, 0.7])
def test_kto(drift: float) -> None:
    """Good and bad answers in one batch; z0 of mismatched answers above 0, and held at 0."""
    from trl import KTOTrainer

    batch = in_fp32(token_pairs(6, seed=5, margins=False))
    desirable = torch.tensor([True, False, True, True, False, False])
    mismatched = torch.tensor([0.5, -0.2, 0.1, 0.3, -0.9, 0.2]) + drift
    side = batch.chosen
    z0 = baseline(mismatched)
    ours = kto(Labels(side, desirable, z0), beta=0.3, desirable_weight=1.2, undesirable_weight=0.9)
    assert (float(z0) > 0) == (drift > 0)

    model = Model(side.policy_token_logp)
    mask = completion_mask(side)
    stand_in = SimpleNamespace(
        accelerator=accelerator(),
        model=model,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        calculate_KL=True,
        loss_type="kto",
        beta=0.3,
        desirable_weight=1.2,
        undesirable_weight=0.9,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        _compute_kl_logps=lambda _model, _batch: mismatched,
    )
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": mask,
        "completion_mask": mask,
        "label": desirable,
        "ref_logps": side.reference_logp_sum,
        "ref_KL_logps": torch.zeros(6),
    }
    theirs = KTOTrainer._compute_loss(stand_in, model, inputs, False)
    assert float(ours.mean()) == pytest.approx(float(theirs), abs=1e-6)


def test_moving_reference() -> None:
    """What TRL's callback makes of the reference's weights, twice in a row."""
    from trl.trainer.callbacks import SyncRefModelCallback

    policy, ours = random_model("llama"), random_model("llama", 1)
    theirs = copy.deepcopy(ours)
    reference = MovingReference(ours, Forward(ours), steps=1, alpha=0.6)
    for step in (1, 2):
        reference.after_step(step, policy)
        SyncRefModelCallback._sync_target_model(policy, theirs, 0.6)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_every_loss_is_compared_or_said_not_to_be_in_trl() -> None:
    assert {case[0] for case in SAME} | ELSEWHERE | NOT_IN_TRL == set(LOSSES)
