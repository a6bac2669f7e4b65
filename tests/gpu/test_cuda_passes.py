"""Passes on a GPU: played back and compiled, against passes as they are made at first."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.rounds.spec import TrainingSettings
from tests.factories.jobs import make_groups, write_job
from tests.factories.models import random_model, write_version
from worker.trainer import flex, recording
from worker.trainer.data import parse_group
from worker.trainer.examples import Example, select
from worker.trainer.forward import Forward
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.packing import Batch, build, plan
from worker.trainer.policy import Policy, make_trainable
from worker.trainer.selfcheck import choose_path

# PyTorch's compiler and transformers' own masks use what PyTorch calls out of date.
pytestmark = pytest.mark.filterwarnings("ignore")

WIDER = {"hidden_size": 64}
"""FlexAttention has no heads of less than 16."""


def examples() -> list[Example]:
    return select([parse_group(group) for group in make_groups(6, 0)], "sigmoid", 1 << 20).train


def batches() -> list[Batch]:
    units = [example.unit for example in examples()]
    return [build(units, made, "shared") for made in plan(units, range(len(units)), "shared", 128, 128)]


def policy(method: str, architecture: str = "llama", **changes: Any) -> Policy:
    """On the GPU, with something to train."""
    model = random_model(architecture, **(WIDER | changes)).cuda().requires_grad_(False)
    model.set_attn_implementation(flex.register())
    settings = TrainingSettings.from_dict({"method": method} | ({"lora_rank": 4} if method == "lora" else {}))
    torch.manual_seed(0)
    made = make_trainable(Policy(model, "full", None, Path()), settings)
    with torch.no_grad():
        for name, parameter in made.trainable.items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return made


def gradients(forward: Forward, of: Policy, times: int = 1) -> dict[str, Tensor]:
    """What ``times`` passes over all batches add up to."""
    for parameter in of.trainable.values():
        if forward.holds_gradients and parameter.grad is not None:
            parameter.grad.zero_()
        else:
            parameter.grad = None
    for _ in range(times):
        for batch in batches():
            logps = forward(batch).tokens
            (logps.sum(1) * torch.arange(1, len(logps) + 1)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in of.trainable.items() if parameter.grad is not None}


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance * float(value.abs().max()))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_of_passes_played_back(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = policy(method)
    monkeypatch.setattr(recording, "PASSES_BEFORE", 100)
    as_usual = Forward(of.model)
    once, twice = gradients(as_usual, of), gradients(as_usual, of, times=2)
    assert not as_usual.holds_gradients
    monkeypatch.setattr(recording, "PASSES_BEFORE", 0)
    played = Forward(of.model)
    assert_near(gradients(played, of), once)
    assert played.holds_gradients
    assert_near(gradients(played, of, times=2), twice)
    for parameter in of.trainable.values():  # whoever lets go of gradients all the same gets the right ones
        parameter.grad = None
    assert_near(gradients(played, of), once)


def test_log_probs_played_back_follow_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PASSES_BEFORE", 0)
    of = policy("full")
    played = Forward(of.model)
    (batch, *_) = batches()
    with torch.no_grad():
        before = played(batch).tokens.clone()
        for parameter in of.trainable.values():
            parameter.mul_(1.1)
        after = played(batch).tokens.clone()
        monkeypatch.setattr(recording, "PASSES_BEFORE", 100)
        torch.testing.assert_close(after, Forward(of.model)(batch).tokens, rtol=1e-4, atol=1e-4)
    assert float((after - before).abs().max()) > 0.01


def test_where_recording_fails_passes_are_made_as_usual(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of = policy("full")
    monkeypatch.setattr(recording, "PASSES_BEFORE", 100)
    expected = gradients(Forward(of.model), of)
    monkeypatch.setattr(recording, "PASSES_BEFORE", 0)
    forward = Forward(of.model)
    decode = forward._decode

    def waits(ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        hidden = decode(ids, positions, mask)
        float(hidden.sum())  # no recording can do that
        return hidden

    monkeypatch.setattr(forward, "_decode", waits)
    assert_near(gradients(forward, of), expected)
    assert "cannot be recorded" in caplog.text
    torch.randn(3, device="cuda")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_of_compiled_layers(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PASSES_BEFORE", 100)
    of = policy(method)
    expected = gradients(Forward(of.model), of)
    compiled = Forward(of.model, compiled=True)
    assert compiled.compiled
    assert_near(gradients(compiled, of), expected, 1e-3)
    monkeypatch.setattr(recording, "PASSES_BEFORE", 0)
    assert_near(gradients(Forward(of.model, compiled=True), of), expected, 1e-3)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {}),
        ("qwen3", {"head_dim": 16}),
        ("gemma3_text", {"head_dim": 16, "query_pre_attn_scalar": 16}),
        ("mistral", {"head_dim": 16}),
    ],
)
def test_groups_share_their_prompt_on_a_gpu(architecture: str, changes: dict[str, Any]) -> None:
    forward = Forward(policy("full", architecture, **changes).model)
    path, finding = choose_path(forward, examples())
    assert (path, finding.level) == ("shared", "ok")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_job_learns_the_same_however_its_passes_are_made(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    write_version(start, **WIDER)
    losses = {}
    for compiled, passes_before in (("never", 1000), ("never", 1), ("always", 1)):
        monkeypatch.setattr(recording, "PASSES_BEFORE", passes_before)
        job = write_job(
            tmp_path / f"{compiled}-{passes_before}",
            groups=make_groups(12, 4),
            start=start,
            method=method,
            compile=compiled,
            dtype="float32",
            pairs_per_step=2,
            epochs=2,
        )
        run(job, "t", Stop(), lambda _event: None)
        lines = map(json.loads, (job / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses[compiled, passes_before] = [line["loss"] for line in lines if line["kind"] in ("train", "eval")]
    expected = losses["never", 1000]
    assert len(expected) > 10
    assert max(expected) - min(expected) > 1e-3
    for got in losses.values():
        assert got == pytest.approx(expected, abs=2e-3)
