"""What a job publishes, and rounds in sequence: continued adapters, changed shapes, full training, references."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.versions.manifest import Parent, VersionInfo, publish, read_digest, verify, write_manifest
from tests.factories.jobs import encode_prompt, make_groups, model_ref, write_job
from tests.factories.models import copy_version, random_model, version_directory
from tests.worker.trainer.running import events
from worker.models import load_model
from worker.trainer.errors import RefusedError
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import displacement_alarm


def quiet(_event: dict[str, Any]) -> None:
    """A listener with nothing to say."""


def train(job: Path, versions: Path, name: str) -> Path:
    """Run a job and put its version among its siblings, as the worker does."""
    version = run(job, "a", Stop(), quiet)
    publish(version, versions / name)
    return versions / name


def logits(directory: Path) -> torch.Tensor:
    model, _, _ = load_model(directory, torch.float32, "cpu")
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=torch.tensor([encode_prompt("tea boat")])).logits
    return output


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """A versions directory with version 1, a full model."""
    copy_version(version_directory("llama"), tmp_path / "versions" / "one")
    return tmp_path / "versions"


def test_adapter_version_is_whole_and_says_where_it_comes_from(tmp_path: Path, versions: Path) -> None:
    first = versions / "one"
    made = train(write_job(tmp_path / "job", start=first), versions, "two")
    verify(made)
    info = VersionInfo.read(made)
    assert (info.kind, info.context_length) == ("adapter", 256)
    assert info.base is not None
    assert (info.base.version, info.base.digest) == ("one", read_digest(first))
    assert info.parent == Parent("one", read_digest(first))
    assert info.snapshot_hash == "0" * 64
    assert info.spec["settings"]["lora_rank"] == 4
    assert info.libraries.keys() == {"torch", "transformers", "peft", "safetensors", "tokenizers"}
    assert {path.name for path in made.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "version.json",
    }
    assert (made / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    assert not torch.allclose(logits(made), logits(first), atol=1e-3)


def test_figures_of_a_version(tmp_path: Path, versions: Path) -> None:
    """The preference is learnable, so held-out figures improve from log 2 and a coin's accuracy."""
    job = write_job(tmp_path / "job", start=versions / "one", groups=make_groups(40, 10), epochs=3)
    metrics = VersionInfo.read(train(job, versions, "two")).metrics
    start, end = metrics["eval"]["start"], metrics["eval"]["end"]
    assert start["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert start["accuracy"] == 0.5
    assert start["kl"] == pytest.approx(0, abs=1e-6)
    assert end["loss"] < 0.65
    assert end["accuracy"] >= 0.75
    assert end["margin"] == pytest.approx(end["chosen_log_ratio"] - end["rejected_log_ratio"], abs=1e-4)
    assert end["kl"] > 0
    assert (start["pairs"], end["step"]) == (10, metrics["train"]["steps"])
    assert (metrics["train"]["preferences"], metrics["train"]["judgements"]) == (40, 40)
    assert metrics["last_step"]["tokens_per_second"] > 0
    longer = [
        len(group["completions"][won]["ids"]) - len(group["completions"][1 - won]["ids"])
        for group in make_groups(40, 10)[:40]
        for won in (0 if group["preferences"][0]["outcome"] == "a" else 1,)
    ]
    assert metrics["lengths"]["length_delta"] == pytest.approx(sum(longer) / 40), "over all, not over the last step"
    assert metrics["forward"] == "tiles"
    lines = [json.loads(line) for line in (job / "metrics.jsonl").read_text().splitlines()]
    progress = [line["progress"] for line in lines]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    step = next(line for line in lines if line["kind"] == "train")
    assert {"step", "steps", "loss", "chosen_log_ratio", "rejected_log_ratio", "margin", "accuracy", "kl"} < step.keys()
    assert {"grad_norm", "learning_rate", "tokens_per_second", "at"} < step.keys()


def test_a_choice_is_one_preference_where_the_loss_makes_two_judgements_of_it(tmp_path: Path, versions: Path) -> None:
    job = write_job(tmp_path / "job", start=versions / "one", groups=make_groups(6, 3), loss="kto", max_steps=1)
    metrics = VersionInfo.read(train(job, versions, "two")).metrics
    assert (metrics["train"]["preferences"], metrics["train"]["judgements"]) == (6, 12)
    end = metrics["eval"]["end"]
    assert (end["pairs"], end["prompts"], end["judgements"]) == (3, 3, 6)
    audit = {finding["name"]: finding["value"] for finding in metrics["audit"]}
    assert audit["held-out preferences"] == "3 in 3 groups"


def test_continued_adapter_stands_on_the_same_base(tmp_path: Path, versions: Path) -> None:
    second = train(write_job(tmp_path / "1", start=versions / "one"), versions, "two")
    job = write_job(tmp_path / "2", start=second, groups=make_groups(seed=5), lora_dropout=0.2)
    third = train(job, versions, "three")
    info = VersionInfo.read(third)
    assert info.kind == "adapter"
    assert info.base is not None
    assert info.base.version == "one"
    assert info.parent == Parent("two", read_digest(second))
    before, after = (load_file(place / "adapter_model.safetensors") for place in (second, third))
    assert before.keys() == after.keys()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    held_out = events(job, "eval")[0]
    assert held_out["loss"] == pytest.approx(0.693147, abs=1e-4), "the reference is the frozen parent adapter"


def test_changed_shape_merges_the_parent_and_publishes_a_full_model(tmp_path: Path, versions: Path) -> None:
    second = train(write_job(tmp_path / "1", start=versions / "one"), versions, "two")
    job = write_job(tmp_path / "2", start=second, lora_rank=2, learning_rate=1e-6, max_steps=1)
    third = train(job, versions, "three")
    info = VersionInfo.read(third)
    assert (info.kind, info.base) == ("full", None)
    assert events(job, "eval")[0]["margin"] == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(logits(third), logits(second), atol=1e-3, rtol=0)
    assert not torch.allclose(logits(third), logits(versions / "one"), atol=1e-2)


def test_full_training_of_an_adapter_starts_from_the_merged_model(tmp_path: Path, versions: Path) -> None:
    second = train(write_job(tmp_path / "1", start=versions / "one"), versions, "two")
    job = write_job(tmp_path / "2", start=second, method="full", learning_rate=1e-7, max_steps=1)
    third = train(job, versions, "three")
    assert VersionInfo.read(third).kind == "full"
    torch.testing.assert_close(logits(third), logits(second), atol=1e-3, rtol=0)


def test_base_as_reference_is_measured_from(tmp_path: Path, versions: Path) -> None:
    """With the base as reference the second round starts where the first one left off, not at Δ = 0."""
    groups = make_groups(24, 6)
    first = write_job(tmp_path / "1", start=versions / "one", groups=groups)
    second = train(first, versions, "two")
    job = write_job(tmp_path / "2", start=second, reference=versions / "one", groups=groups)
    run(job, "a", Stop(), quiet)
    assert events(job, "eval")[0]["margin"] == pytest.approx(events(first, "eval")[-1]["margin"], abs=1e-4)


def test_reference_with_another_vocabulary_is_refused(tmp_path: Path, versions: Path) -> None:
    """Two tokens have changed places: every id is known to both, and some of them are other texts."""
    other = copy_version(version_directory("llama", 1), tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[20:22]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    write_manifest(other)
    job = write_job(tmp_path / "job", start=versions / "one", reference=other)
    with pytest.raises(
        RefusedError, match=rf"another vocabulary than the start: 4 tokens differ, .* id {vocabulary[second]};"
    ):
        run(job, "a", Stop(), quiet)


def test_reference_is_computed_once_for_all_rounds(tmp_path: Path, versions: Path) -> None:
    """A second job over the same completions and reference reads every log-prob; new completions are computed."""
    store = tmp_path / "reference"
    groups = make_groups(8, 2)
    first = write_job(tmp_path / "1", start=versions / "one", groups=groups, reference_store=store)
    run(first, "a", Stop(), quiet)
    again = write_job(tmp_path / "2", start=versions / "one", groups=groups, reference_store=store, loss="dpop")
    run(again, "a", Stop(), quiet)
    more = write_job(tmp_path / "3", start=versions / "one", groups=make_groups(9, 2), reference_store=store)
    run(more, "a", Stop(), quiet)
    phases = [{event["phase"] for event in events(job, "phase")} for job in (first, again, more)]
    assert ["reference" in names for names in phases] == [True, False, True]


def test_stored_reference_of_another_model_is_noticed(tmp_path: Path, versions: Path) -> None:
    """Log-probs filed under the wrong digest would train towards nonsense; |Δ| before the first step says so."""
    store = tmp_path / "reference"
    groups = make_groups(8, 0)
    other = version_directory("llama", 1)
    run(write_job(tmp_path / "1", start=other, groups=groups, reference_store=store), "a", Stop(), quiet)
    (store / model_ref(other).digest).rename(store / model_ref(versions / "one").digest)
    job = write_job(tmp_path / "2", start=versions / "one", groups=groups, reference_store=store)
    with pytest.raises(Exception, match=r"\|Δ\| before step 1.*remove its folder"):
        run(job, "a", Stop(), quiet)


def test_unknown_lora_target_is_refused_with_those_there_are(tmp_path: Path, versions: Path) -> None:
    job = write_job(tmp_path / "job", start=versions / "one", lora_targets=["q_proj", "query"])
    with pytest.raises(Exception, match=r"query, which this model has not; it has .*q_proj"):
        run(job, "a", Stop(), quiet)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3_text"])
def test_lora_on_other_architectures(tmp_path: Path, architecture: str) -> None:
    job = write_job(tmp_path / "job", start=version_directory(architecture), groups=make_groups(6, 0))
    model, _, info = load_model(run(job, "a", Stop(), quiet), torch.float32, "cpu")
    assert info.kind == "adapter"
    assert random_model(architecture).config.model_type == model.config.model_type


def test_displacement_alarm_names_the_mends_once(tmp_path: Path, versions: Path) -> None:
    """Against a reference that was trained to favour the chosen answers they start out below it."""
    groups = make_groups(20, 5)
    better = train(write_job(tmp_path / "1", start=versions / "one", groups=groups), versions, "two")
    job = write_job(
        tmp_path / "2",
        start=versions / "one",
        reference=better,
        groups=groups,
        learning_rate=1e-6,
        displacement_alarm_nats=0.2,
    )
    metrics = VersionInfo.read(run(job, "a", Stop(), quiet)).metrics
    assert metrics["eval"]["start"]["chosen_log_ratio"] < -0.2
    (alarm,) = events(job, "alarm")
    assert alarm["message"] == metrics["displacement_alarm"]
    assert "loss 'dpop'" in alarm["message"]
    assert "NLL" in alarm["message"]


def test_displacement_alarm_of_a_loss_that_lowers_answers_on_purpose_says_so() -> None:
    assert displacement_alarm([], -0.9, 1.0, "apo_down") is None
    told = displacement_alarm([], -1.1, 1.0, "apo_down")
    assert told is not None
    assert "1.10 nats less likely" in told
    assert "on purpose: raise displacement_alarm_nats" in told
