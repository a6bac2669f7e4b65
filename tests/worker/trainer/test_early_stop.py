"""Runs that stop before their last step, and publish the weights that did best."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from app.versions.manifest import VersionInfo, verify
from tests.factories.jobs import make_groups, write_job
from tests.worker.trainer.running import events
from worker.trainer.console import describe
from worker.trainer.errors import StoppedError
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.summary import table


def contrary_groups() -> list[dict[str, Any]]:
    """People on held-out prompts prefer what those on the others reject: held-out loss rises from the first step."""
    groups = make_groups(24, 6)
    for group in groups:
        if group["split"] == "eval":
            for preference in group["preferences"]:
                preference["outcome"] = {"a": "b", "b": "a"}[preference["outcome"]]
    return groups


def write(job: Path, **settings: Any) -> Path:
    return write_job(job, groups=contrary_groups(), eval_every_steps=2, epochs=4, **settings)


def weights(version: Path) -> dict[str, torch.Tensor]:
    return load_file(version / "adapter_model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_patience_ends_it_and_the_best_weights_are_published(tmp_path: Path) -> None:
    """Best after step 2; two more evaluations are waited for. A run of two steps has the published weights."""
    job = write(tmp_path / "job", early_stop_evaluations=2, schedule="constant", warmup_ratio=0.0)
    version = run(job, "a", Stop(), lambda _event: None)
    verify(version)
    metrics = VersionInfo.read(version).metrics
    assert [event["step"] for event in events(job, "eval")] == [0, 2, 4, 6]
    (best,) = events(job, "best")
    assert (best["step"], best["start_loss"]) == (2, events(job, "eval")[0]["loss"])
    assert describe(best) == (
        f"lowest held-out loss so far: {best['loss']:.4f} after step 2, above the {best['start_loss']:.4f} of the start"
    )
    assert "above" not in describe(best | {"loss": best["start_loss"]})
    (stopped,) = events(job, "early_stop")
    assert stopped["reason"] == metrics["stopped_early"]
    assert "2 evaluations in a row were not below" in stopped["reason"]
    assert (metrics["published_step"], metrics["best_step"], metrics["train"]["steps"]) == (2, 2, 6)
    assert metrics["train"]["steps_planned"] == 24
    assert metrics["eval"]["end"] == metrics["evaluations"][1]
    short = write(tmp_path / "short", max_steps=2, schedule="constant", warmup_ratio=0.0)
    assert same(weights(version), weights(run(short, "a", Stop(), lambda _event: None)))
    last = write(tmp_path / "last", early_stop_evaluations=2, schedule="constant", warmup_ratio=0.0, publish="last")
    assert not same(weights(version), weights(run(last, "a", Stop(), lambda _event: None)))


def test_the_best_weights_outlive_a_stop(tmp_path: Path) -> None:
    """Stopped after the best evaluation and resumed, the run publishes what an uninterrupted one does."""
    whole = run(write(tmp_path / "whole"), "a", Stop(), lambda _event: None)
    job, stop = write(tmp_path / "job"), Stop()

    def stop_at(event: dict[str, Any]) -> None:
        stop.asked |= event["kind"] == "train" and event["step"] == 7

    with pytest.raises(StoppedError):
        run(job, "a", stop, stop_at)
    assert [place.name for place in (job / "checkpoints").glob("best-*")] == ["best-00000002"]
    version = run(job, "b", Stop(), lambda _event: None)
    assert VersionInfo.read(version).metrics["published_step"] == 2
    assert same(weights(version), weights(whole))


def test_the_kl_budget_ends_it_within_the_budget(tmp_path: Path) -> None:
    job = write(tmp_path / "job", kl_budget_nats=0.05, learning_rate=2e-3)
    metrics = VersionInfo.read(run(job, "a", Stop(), lambda _event: None)).metrics
    assert "KL budget" in metrics["stopped_early"]
    last = metrics["evaluations"][-1]
    assert last["kl"] > 0.05
    assert metrics["published_step"] < last["step"]
    assert metrics["eval"]["end"]["kl"] <= 0.05


def test_damaged_best_weights_give_way_to_the_last_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = write(tmp_path / "job", max_steps=6)

    def damage(event: dict[str, Any]) -> None:
        if event["kind"] == "train" and event["step"] == 6:
            (best,) = (job / "checkpoints").glob("best-*")
            (best / "state.safetensors").write_bytes(b"torn")

    version = run(job, "a", Stop(), damage)
    assert VersionInfo.read(version).metrics["published_step"] == 6
    assert "the last ones are published" in caplog.text


def test_the_kl_budget_ends_it_between_evaluations(tmp_path: Path) -> None:
    """Without ``eval_every_steps``: the last steps' answers end it, and one more evaluation says what is published."""
    job = write_job(tmp_path / "job", groups=make_groups(24, 6), kl_budget_nats=0.5, epochs=10)
    metrics = VersionInfo.read(run(job, "a", Stop(), lambda _event: None)).metrics
    (stopped,) = events(job, "early_stop")
    assert 10 <= stopped["step"] < metrics["train"]["steps_planned"]
    assert "the last 10 steps' answers" in metrics["stopped_early"]
    assert [event["step"] for event in events(job, "eval")] == [0, stopped["step"]]
    assert metrics["published_step"] == stopped["step"]


def test_weights_over_the_budget_are_published_and_called_so(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", groups=make_groups(24, 6), kl_budget_nats=1e-6, epochs=3)
    version = run(job, "a", Stop(), lambda _event: None)
    info = VersionInfo.read(version)
    (warned,) = events(job, "over_budget")
    assert info.metrics["best_step"] is None
    assert info.metrics["over_kl_budget"] == warned["message"]
    assert "are over the KL budget: held-out answers are" in warned["message"]
    console = Console(record=True, width=300, file=io.StringIO())
    console.print(table(info))
    assert warned["message"] in console.export_text()
    within = run(write_job(tmp_path / "within", kl_budget_nats=1e6), "a", Stop(), lambda _event: None)
    assert VersionInfo.read(within).metrics["over_kl_budget"] is None


def test_evaluations_are_compared_by_a_loss_that_stays(tmp_path: Path) -> None:
    """A reference that moves all the way has the loss at log 2 after each; the frozen one tells them apart."""
    job = write_job(
        tmp_path / "job",
        groups=make_groups(24, 6),
        loss="tr_dpo",
        reference_sync_steps=2,
        reference_sync_alpha=1.0,
        eval_every_steps=2,
        pair_weighting="wpo",
        epochs=2,
    )
    plain = write_job(tmp_path / "plain", groups=make_groups(24, 6), max_steps=2, eval_every_steps=2, epochs=2)
    for place in (job, plain):
        run(place, "a", Stop(), lambda _event: None)
    taken = events(job, "eval")[1:]
    weighed = [event["wpo_weight"] * math.log(2) for event in taken]
    assert [event["loss"] for event in taken] == pytest.approx(weighed, rel=1e-3)
    losses = [event["comparable_loss"] for event in taken]
    assert max(losses) - min(losses) > 0.01
    best = min(taken, key=lambda event: event["comparable_loss"])
    assert events(job, "best")[-1] | {"at": "", "progress": 0} == {
        "at": "",
        "progress": 0,
        "kind": "best",
        "step": best["step"],
        "loss": best["comparable_loss"],
        "start_loss": events(job, "eval")[0]["comparable_loss"],
    }
    assert events(job, "eval")[0]["comparable_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert "comparable_loss" not in events(plain, "eval")[0]
