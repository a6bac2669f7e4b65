"""Whole trainings with the losses that need more than pairs of sums, against blackboard versions of them.

The blackboard knows no packing, no store and no accumulation: one forward of one unpadded answer at a time.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.factories.jobs import make_groups, write_job
from tests.factories.models import random_model, version_directory
from tests.numeric.test_training import moved, trained
from worker.trainer.data import ids_digest

STEPS = 6
RATE = 1e-3
Logps = Callable[[Any, list[int], list[int]], Tensor]


def tokens(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    """(length,): log π of every completion token."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return predicted[range(len(completion)), completion]


def rho(policy: Any, reference: Any, group: dict[str, Any], index: int) -> Tensor:
    """Token by token: log π_θ − log π_ref."""
    prompt, completion = group["prompt_ids"], group["completions"][index]["ids"]
    with torch.no_grad():
        held = tokens(reference, prompt, completion)
    return tokens(policy, prompt, completion) - held


def won_and_lost(preference: dict[str, Any]) -> tuple[int, int]:
    a, b = preference["a"], preference["b"]
    return (a, b) if preference["outcome"] != "b" else (b, a)


Groups = list[dict[str, Any]]
Naive = Callable[[Any, Any, Groups], Tensor]


def ld_dpo(policy: Any, reference: Any, groups: Groups) -> Tensor:
    losses = []
    for group in groups:
        for preference in group["preferences"]:
            w, x = (rho(policy, reference, group, i) for i in won_and_lost(preference))
            m = min(len(w), len(x))
            d = 0.1 * (w[:m].sum() + 0.5 * w[m:].sum() - x[:m].sum() - 0.5 * x[m:].sum())
            losses.append(torch.log1p(torch.exp(-d)))
    return torch.stack(losses).mean()


def davidson(policy: Any, reference: Any, groups: Groups) -> Tensor:
    losses = []
    for group in groups:
        for preference in group["preferences"]:
            w, x = (torch.exp(0.1 * rho(policy, reference, group, i).double().sum()) for i in won_and_lost(preference))
            tie = 2 * torch.sqrt(w * x)
            losses.append(-torch.log((tie if preference["outcome"] == "tie" else w) / (w + x + tie)))
    return torch.stack(losses).mean()


def plackett_luce(policy: Any, reference: Any, groups: Groups) -> Tensor:
    total, weight = torch.zeros(()), 0.0
    for group in groups:
        for ranking in group["rankings"]:
            strengths = [torch.exp(0.1 * rho(policy, reference, group, i).sum()) for (i,) in ranking["tiers"]]
            chance = math.prod(strengths[k] / sum(strengths[k:]) for k in range(len(strengths)))
            total = total - ranking["weight"] * torch.log(chance)
            weight += ranking["weight"]
    return total / weight


def kto(policy: Any, reference: Any, groups: Groups) -> Tensor:
    """z0: every label's prompt with the labelled answer that follows by digest and is to another one."""
    drift = []
    ring = [(group, group["completions"][label["completion"]]) for group in groups for label in group["labels"]]
    ring.sort(key=lambda item: ids_digest(item[0]["prompt_ids"], item[1]["ids"]))
    for place, (group, _) in enumerate(ring):
        others = [item for item in ring[place + 1 :] + ring[:place] if item[0]["prompt_ids"] != group["prompt_ids"]]
        drift.append(rho(policy, reference, group | {"completions": [others[0][1]]}, 0).detach().sum())
    z0 = torch.stack(drift).mean().clamp(min=0)
    total, weight = torch.zeros(()), 0.0
    for group in groups:
        for label in group["labels"]:
            ahead = 0.1 * (rho(policy, reference, group, label["completion"]).sum() - z0)
            value = 1 - torch.sigmoid(ahead) if label["desirable"] else 1 - torch.sigmoid(-ahead)
            total = total + label["weight"] * (1.2 if label["desirable"] else 0.9) * value
            weight += label["weight"]
    return total / weight


def wpo(policy: Any, reference: Any, groups: Groups) -> Tensor:
    losses = []
    for group in groups:
        for preference in group["preferences"]:
            d, trust = torch.zeros(()), torch.zeros(())
            for sign, index in zip((1, -1), won_and_lost(preference), strict=True):
                prompt, completion = group["prompt_ids"], group["completions"][index]["ids"]
                d = d + sign * 0.1 * rho(policy, reference, group, index).sum()
                with torch.no_grad():
                    p = policy(input_ids=torch.tensor([prompt + completion])).logits[0].softmax(-1)
                    p = p[len(prompt) - 1 : -1]
                    trust = trust + (p[range(len(completion)), completion].log() - p.square().sum(-1).log()).mean()
            losses.append(trust.exp().clamp(max=1) * torch.log1p(torch.exp(-d)))
    return torch.stack(losses).mean()


def sigmoid(policy: Any, reference: Any, groups: Groups) -> Tensor:
    losses = []
    for group in groups:
        for preference in group["preferences"]:
            w, x = (rho(policy, reference, group, i).sum() for i in won_and_lost(preference))
            losses.append(torch.log1p(torch.exp(-0.1 * (w - x))))
    return torch.stack(losses).mean()


def forward_kl(policy: Any, reference: Any, groups: Groups) -> Tensor:
    losses = []
    for group in groups:
        for preference in group["preferences"]:
            w, x = (torch.exp(rho(policy, reference, group, i).sum()) for i in won_and_lost(preference))
            losses.append(torch.log1p(torch.exp(-0.1 * (1 / x - 1 / w))))
    return torch.stack(losses).mean()


class Bco:
    """What it remembers is the mean of every step since the reference moved, ``every`` steps ago at most."""

    def __init__(self, every: int | None = None) -> None:
        self.every, self.means, self.steps = every, [], 0

    def __call__(self, policy: Any, reference: Any, groups: Groups) -> Tensor:
        s = sum(self.means) / len(self.means) if self.means else 0.0
        losses, middles = [], []
        for group in groups:
            for preference in group["preferences"]:
                w, x = (rho(policy, reference, group, i).sum() for i in won_and_lost(preference))
                losses.append(torch.log1p(torch.exp(-0.3 * (w - s))) + torch.log1p(torch.exp(0.3 * (x - s))))
                middles.append(float((w + x).detach()) / 2)
        self.means.append(sum(middles) / len(middles))
        self.steps += 1
        if self.every is not None and self.steps % self.every == 0:
            self.means = []
        return torch.stack(losses).mean()


def blackboard(
    groups: Groups, loss: Naive, reference_seed: int, sync: tuple[int, float] | None = None
) -> dict[str, Tensor]:
    """The weights after ``STEPS`` steps of AdamW over all groups; ``sync``: τ and α of a reference that moves."""
    model, reference = random_model("llama"), copy.deepcopy(random_model("llama", reference_seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(model, reference, groups).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if sync is not None and (step + 1) % sync[0] == 0:
            with torch.no_grad():
                for held, ours in zip(reference.parameters(), model.parameters(), strict=True):
                    held.copy_(sync[1] * ours + (1 - sync[1]) * held)
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


def data(kind: str) -> Groups:
    groups = make_groups(4, 0, completions=3)
    if kind == "ties":
        for group in groups:
            group["preferences"][1]["outcome"] = "tie"
    if kind in ("rankings", "labels"):
        for number, group in enumerate(groups):
            group["preferences"] = []
            if kind == "rankings":
                group["rankings"] = [{"tiers": [[2], [0], [1]], "weight": 1.0 + number}]
            else:
                group["labels"] = [{"completion": k, "desirable": k != 1, "weight": 1.0 + k} for k in range(3)]
    return groups


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """Length of the difference as a share of the way theirs went.

    Not weight by weight: where a gradient is next to nothing, Adam divides rounding by rounding.
    """
    assert ours.keys() == theirs.keys()
    difference = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours)
    way = sum(float((theirs[name] - start[name]).square().sum()) for name in ours)
    return math.sqrt(difference / way)


CASES: dict[str, tuple[str, Naive, dict[str, Any], tuple[int, float] | None]] = {
    "ld_dpo": ("pairs", ld_dpo, {}, None),
    "davidson": ("ties", davidson, {}, None),
    "plackett_luce": ("rankings", plackett_luce, {}, None),
    "kto": ("labels", kto, {"loss_settings": {"desirable_weight": 1.2, "undesirable_weight": 0.9}}, None),
    "wpo": ("pairs", wpo, {"loss": "sigmoid", "pair_weighting": "wpo"}, None),
    "bco_pair": ("pairs", Bco(), {"loss_settings": {"beta": 0.3}}, None),
    "bco_pair against a reference that moves": (
        "pairs",
        Bco(every=2),
        {"loss": "bco_pair", "loss_settings": {"beta": 0.3}, "reference_sync_steps": 2, "reference_sync_alpha": 0.6},
        (2, 0.6),
    ),
    "f_dpo": ("pairs", forward_kl, {"loss": "sigmoid", "f_divergence": "forward_kl"}, None),
    "tr_dpo": ("pairs", sigmoid, {"reference_sync_steps": 2, "reference_sync_alpha": 0.6}, (2, 0.6)),
}


@pytest.mark.parametrize("case", CASES)
def test_trajectory(tmp_path: Path, case: str) -> None:
    """Six steps of full training away from the reference, cut into several passes, end in equal weights."""
    kind, naive, settings, sync = CASES[case]
    groups = data(kind)
    job = write_job(
        tmp_path / "job",
        groups=groups,
        reference=version_directory("llama", 1),
        **{"loss": case, "method": "full", "learning_rate": RATE, "schedule": "constant", "warmup_ratio": 0.0}
        | {"pairs_per_step": 1000, "epochs": STEPS, "tokens_per_row": 64}
        | settings,
    )
    ours, theirs = trained(job), blackboard(groups, naive, 1, sync)
    start = {name: tensor for name, tensor in random_model("llama").state_dict().items() if name in ours}
    assert moved(ours, start) > 1e-3
    assert apart(ours, theirs, start) < 1e-3
