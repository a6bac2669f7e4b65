"""Whole training runs against an independent, naive DPO, and against themselves cut up differently."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from app.versions.manifest import VersionInfo
from tests.factories.jobs import make_groups, write_job
from tests.factories.models import random_model, version_directory
from worker.trainer.examples import select
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import Event


def quiet(_event: Event) -> None:
    """A listener with nothing to say."""


def trained(job: Path) -> dict[str, Tensor]:
    """The weights of the version the job makes."""
    version = run(job, "t", Stop(), quiet)
    (weights,) = version.glob("*.safetensors")
    return load_file(weights)


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def moved(weights: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """Largest change of any weight, so that a comparison of trajectories cannot pass by standing still."""
    return max(float((tensor - start[name]).abs().max()) for name, tensor in weights.items())


def naive_logp(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    """log π(y|x), summed, from full logits of one unpadded sequence."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return predicted[range(len(completion)), completion].sum()


def naive_sigmoid(rho_w: Tensor, rho_l: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-0.1 * (rho_w - rho_l)))


def naive_dpop(rho_w: Tensor, rho_l: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-0.3 * (rho_w - rho_l - 50 * torch.clamp(-rho_w, min=0))))


def naive_training(
    groups: Iterable[dict[str, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    reference_seed: int,
    *,
    warmup: int = 0,
    floor: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> dict[str, Tensor]:
    """DPO as one would write it on a blackboard: all pairs in every step, one forward per side, no packing."""
    pairs = []
    for group in groups:
        for preference in group["preferences"]:
            a, b = (group["completions"][preference[side]]["ids"] for side in "ab")
            won, lost = (a, b) if preference["outcome"] == "a" else (b, a)
            pairs.append((group["prompt_ids"], won, lost, preference["weight"]))
    model, reference = random_model("llama"), random_model("llama", reference_seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=betas, eps=eps, weight_decay=0.0)
    for step in range(steps):
        total = torch.zeros(())
        for prompt, won, lost, weight in pairs:
            rho = []
            for completion in (won, lost):
                with torch.no_grad():
                    held = naive_logp(reference, prompt, completion)
                rho.append(naive_logp(model, prompt, completion) - held)
            total = total + weight * loss(rho[0], rho[1])
        optimizer.zero_grad()
        (total / sum(pair[3] for pair in pairs)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for parameter_group in optimizer.param_groups:
            fallen = floor + (1 - floor) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
            parameter_group["lr"] = 1e-3 * ((step + 1) / warmup if step < warmup else fallen)
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


@pytest.mark.parametrize(
    ("loss", "naive", "reference_seed"),
    [("sigmoid", naive_sigmoid, 0), ("sigmoid", naive_sigmoid, 1), ("dpop", naive_dpop, 1)],
)
def test_trajectory_of_a_naive_implementation(
    tmp_path: Path, loss: str, naive: Callable[[Tensor, Tensor], Tensor], reference_seed: int
) -> None:
    """Six steps of full training over weighted pairs of groups with two and three completions end in equal weights.

    DPOP from another model than its reference only: where they are equal it starts on its kink ρ_w = 0, and rounding
    chooses the side.
    """
    groups = make_groups(4, 0) + [g | {"id": f"{g['id']}x"} for g in make_groups(2, 0, completions=3, seed=1)]
    for number, group in enumerate(groups):
        for preference in group["preferences"]:
            preference["weight"] = 0.5 + number
    job = write_job(
        tmp_path / "job",
        groups=groups,
        method="full",
        loss=loss,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_ratio=0.0,
        pairs_per_step=1000,
        epochs=6,
        tokens_per_row=64,
        reference=version_directory("llama", reference_seed),
    )
    ours, theirs = trained(job), naive_training(groups, naive, 6, reference_seed)
    start = {name: tensor for name, tensor in random_model("llama").state_dict().items() if name in ours}
    assert moved(ours, start) > 1e-3
    assert_close(ours, theirs, 2e-5)


def test_trajectory_of_an_optimiser_with_settings_of_its_own(tmp_path: Path) -> None:
    """Warm-up in steps, a floor, and Adam's numbers; its ε is large beside the gradients, so that it tells."""
    groups = make_groups(4, 0)
    settings = {"warmup_steps": 2, "lr_min_ratio": 0.3, "adam_beta1": 0.7, "adam_beta2": 0.9, "adam_epsilon": 1e-2}
    job = write_job(
        tmp_path / "job",
        groups=groups,
        method="full",
        learning_rate=1e-3,
        schedule="cosine",
        pairs_per_step=1000,
        epochs=6,
        **settings,
    )
    ours = trained(job)
    theirs = naive_training(groups, naive_sigmoid, 6, 0, warmup=2, floor=0.3, betas=(0.7, 0.9), eps=1e-2)
    start = {name: tensor for name, tensor in random_model("llama").state_dict().items() if name in ours}
    assert moved(ours, start) > 3e-5
    assert_close(ours, theirs, moved(ours, start) / 300)
    assert VersionInfo.read(next(job.glob("attempt-*/version"))).spec["settings"].items() >= settings.items()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_one_pass_of_eight_is_eight_passes_of_one(tmp_path: Path, method: str) -> None:
    """Eight groups in one forward pass a step, and one group a pass, accumulate to the same weights."""
    groups = make_groups(8, 0)
    for number, group in enumerate(groups):
        group["preferences"][0]["weight"] = 1 + number
    settings = {"groups": groups, "method": method, "pairs_per_step": 8, "epochs": 3, "learning_rate": 1e-3}
    whole = trained(write_job(tmp_path / "whole", tokens_per_row=4096, **settings))
    split = trained(write_job(tmp_path / "split", tokens_per_row=16, **settings))
    assert_close(whole, split, 2e-6)


@pytest.mark.parametrize("settings", [{"method": "full"}, {"lora_dropout": 0.3}], ids=["full", "dropout"])
def test_layers_computed_again_change_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Bit for bit: the second time is the same arithmetic, with the same units dropped."""
    kept, again = (
        trained(write_job(tmp_path / str(on), groups=make_groups(4, 2), gradient_checkpointing=on, **settings))
        for on in (False, True)
    )
    assert all(torch.equal(kept[name], again[name]) for name in kept | again)


def test_order_of_groups_in_a_step_changes_nothing(tmp_path: Path) -> None:
    groups = make_groups(8, 0)
    settings = {"pairs_per_step": 8, "epochs": 3, "learning_rate": 1e-3}
    forwards = trained(write_job(tmp_path / "forwards", groups=groups, **settings))
    backwards = trained(write_job(tmp_path / "backwards", groups=groups[::-1], **settings))
    assert_close(forwards, backwards, 2e-6)


def test_a_weight_of_two_is_the_pair_twice(tmp_path: Path) -> None:
    """The other group has the weight of its two preferences either way, so the weighted mean is the same."""
    one, two = make_groups(2, 0)
    heavy = one | {"preferences": [one["preferences"][0] | {"weight": 2.0}]}
    twice = one | {"preferences": [one["preferences"][0], one["preferences"][0] | {"id": "again"}]}
    settings = {"pairs_per_step": 100, "epochs": 2, "learning_rate": 1e-3}
    by_weight = trained(write_job(tmp_path / "heavy", groups=[heavy, two], **settings))
    by_count = trained(write_job(tmp_path / "twice", groups=[twice, two], **settings))
    assert_close(by_weight, by_count, 2e-6)


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """Autocast trains along: the adapters' change points the same way."""
    settings = {"pairs_per_step": 12, "epochs": 4, "learning_rate": 1e-3}
    exact = trained(write_job(tmp_path / "float32", dtype="float32", **settings))
    rounded = trained(write_job(tmp_path / "bfloat16", dtype="bfloat16", **settings))
    ours, theirs = (torch.cat([w[n].flatten() for n in sorted(w) if "lora_B" in n]) for w in (exact, rounded))
    assert float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0)) > 0.9


# TRL, accelerate and datasets warn of their own affairs while they are imported and set up.
@pytest.mark.filterwarnings("ignore")
def test_loss_of_trl(tmp_path: Path) -> None:
    """TRL's DPOTrainer, on rows it tokenised itself, has our loss for a policy that is not its reference."""
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    from tests.factories.models import WORDS, tokenizer
    from worker.trainer.dataset import load_groups
    from worker.trainer.forward import Forward
    from worker.trainer.losses import LOSSES
    from worker.trainer.packing import build, plan
    from worker.trainer.pairing import assemble
    from worker.trainer.reference import completion_keys

    rows = [
        {
            "prompt": [{"role": "user", "content": " ".join(WORDS[i : i + 4])}],
            "chosen": [{"role": "assistant", "content": " ".join(WORDS[i + 4 : i + 6 + i % 3])}],
            "rejected": [{"role": "assistant", "content": " ".join(WORDS[i + 9 : i + 12])}],
        }
        for i in range(6)
    ]
    disable_progress_bars()
    policy, reference = random_model("llama", seed=0), random_model("llama", seed=1)
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(output_dir=str(tmp_path), beta=0.1, use_cpu=True, bf16=False, report_to="none", seed=0),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
    )
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
    with torch.no_grad():
        theirs = float(trainer._compute_loss(trainer.model.eval(), inputs, return_outputs=False))

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups, _ = load_groups([file], tokenizer(), frozenset({2}), 0.0)
    examples = select(groups, "sigmoid", 256).train
    units = [example.unit for example in examples]
    keys = completion_keys(units)
    (made,) = plan(units, range(len(units)), "shared", 10_000)
    batch = build(units, made, "shared")
    with torch.no_grad():
        held, ours = Forward(reference)(batch).tokens, Forward(policy)(batch).tokens
        stored = {
            key: held[batch.first_completion[unit] + k] for unit in made.units for k, key in enumerate(keys[unit])
        }
        pairs, _ = assemble(examples, made, batch, ours, stored, keys)
        loss = float(LOSSES["sigmoid"](pairs, beta=0.1).mean())
    assert abs(loss - math.log(2)) > 0.02
    assert loss == pytest.approx(theirs, abs=1e-5)
