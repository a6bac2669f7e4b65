"""Adapters that others made with PEFT: as the start of a training, and as its reference."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.versions.manifest import VersionInfo, verify
from tests.factories.adapters import as_peft_loads_it, change_config, make_adapter, told
from tests.worker.test_hub import COMMIT, cache, cached_model
from tests.worker.trainer.running import events
from tests.worker.trainer.test_base import models, succeeded
from tests.worker.trainer.test_cli import _signals_as_before, data, train
from tests.worker.trainer.test_merge import base
from worker.models import load_model

__all__ = ["_signals_as_before", "base", "cache", "data", "models"]


def test_training_goes_on_in_an_adapter_with_its_frozen_copy_as_the_reference(
    tmp_path: Path, data: Path, base: Path
) -> None:
    """Its rank, alpha and modules are those that nobody gave; what is published stands on the base as it did."""
    adapter, output = make_adapter(tmp_path / "mine", base), tmp_path / "new"
    succeeded(train(data, output, "--learning-rate", "0.01", model=adapter))
    verify(output)
    info = VersionInfo.read(output)
    settings = info.spec["settings"]
    assert (settings["lora_rank"], settings["lora_alpha"]) == (3, 6)
    assert settings["lora_targets"] == ["down_proj", "q_proj"]
    assert info.kind == "adapter"
    assert info.base_directory(output) == tmp_path / "new.base"
    assert events(tmp_path / "new.job", "eval")[0]["kl"] < 1e-6, "the reference is the adapter, not its base"
    before, after = (load_file(place / "adapter_model.safetensors") for place in (adapter, output))
    assert before.keys() == after.keys()
    moved = [float((after[name] - before[name]).abs().max()) for name in before]
    assert 0 < max(moved) < 0.2, "it went on from where the adapter was"
    torch.testing.assert_close(told(load_model(output, torch.float32, "cpu")[0]), as_peft_loads_it(output, base))
    start = VersionInfo.read(tmp_path / "new.start")
    assert start.source["path"] == str(adapter)
    assert info.parent is not None
    assert info.parent.digest == verify(tmp_path / "new.start")


def test_before_the_first_step_the_start_is_the_adapter(tmp_path: Path, data: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    succeeded(train(data, tmp_path / "new", "--dry-run", model=adapter))
    loaded, tokenizer, info = load_model(tmp_path / "new.start", torch.float32, "cpu")
    assert info.context_length == 256
    assert tokenizer.chat_template
    torch.testing.assert_close(told(loaded), as_peft_loads_it(adapter, base))


def test_a_base_in_the_hubs_cache(tmp_path: Path, data: Path, cache: Path) -> None:
    snapshot = cached_model(cache)
    adapter = make_adapter(tmp_path / "mine", snapshot, "owner/name", revision=None)
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", model=adapter))
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", COMMIT)
    change_config(adapter, revision="0" * 40)
    result = train(data, tmp_path / "other", model=adapter)
    assert result.exit_code == 2
    assert "mine: the model it stands on: owner/name: could not be fetched" in result.stderr.splitlines()[-1]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["lm_head", "q_proj"], "alpha_pattern": {"q_proj": 3}},
        {"target_modules": ["embed_tokens", "q_proj"], "bias": "all"},
    ],
    ids=["DoRA", "ranks", "head saved", "head", "embedding"],
)
def test_an_adapter_of_another_kind_is_merged_first(
    tmp_path: Path, data: Path, base: Path, changes: dict[str, Any]
) -> None:
    """More than two matrices a module, which is not trained on, or not loaded by vLLM: nothing of it is lost.

    The tiny Llama's head is its embedding: an adapter of one of the two parts them.
    """
    adapter = make_adapter(tmp_path / "mine", base, **changes)
    more = ("--max-steps", "1", "--learning-rate", "1e-9", "--method", "full")
    succeeded(train(data, tmp_path / "new", *more, model=adapter))
    model, _, info = load_model(tmp_path / "new", torch.float32, "cpu")
    assert info.kind == "full"
    torch.testing.assert_close(told(model), as_peft_loads_it(adapter, base), atol=1e-4, rtol=1e-4)


def test_training_an_adapter_over_one_of_another_kind_publishes_a_full_model(
    tmp_path: Path, data: Path, base: Path
) -> None:
    adapter = make_adapter(tmp_path / "mine", base, use_dora=True)
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", model=adapter))
    info = VersionInfo.read(tmp_path / "new")
    assert (info.kind, info.spec["settings"]["lora_rank"]) == ("full", 16)


def test_another_shape_that_is_asked_for_merges(tmp_path: Path, data: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", "--lora-rank", "5", model=adapter))
    assert VersionInfo.read(tmp_path / "new").kind == "full"


def test_a_version_is_continued_in_its_own_shape_unless_another_is_given(tmp_path: Path, data: Path) -> None:
    succeeded(train(data, tmp_path / "one", "--max-steps", "1", "--lora-rank", "3"))
    succeeded(train(data, tmp_path / "two", "--max-steps", "1", model=tmp_path / "one"))
    info = VersionInfo.read(tmp_path / "two")
    assert (info.kind, info.spec["settings"]["lora_rank"]) == ("adapter", 3)
    assert info.spec["settings"]["lora_targets"] == "all-linear"


def test_an_adapter_is_a_reference_and_its_base_is_kept_once(tmp_path: Path, data: Path, base: Path) -> None:
    adapter, output = make_adapter(tmp_path / "mine", base), tmp_path / "new"
    succeeded(train(data, output, "--max-steps", "1", "--reference", str(adapter), model=base))
    assert VersionInfo.read(output).metrics["eval"]["start"]["kl"] > 1e-3
    weights = [tmp_path / name / "model.safetensors" for name in ("new.base", "new.reference.base")]
    assert weights[0].samefile(weights[1])


def test_an_adapter_that_changed_is_taken_again(tmp_path: Path, data: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    succeeded(train(data, tmp_path / "new", "--dry-run", model=adapter))
    make_adapter(adapter, base, r=2)
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", model=adapter))
    assert VersionInfo.read(tmp_path / "new").spec["settings"]["lora_rank"] == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"base_model_name_or_path": None},
            "mine: does not name the model it stands on; write its directory or hub id",
        ),
        ({"base_model_name_or_path": "nowhere"}, "mine: the model it stands on: nowhere: no such directory"),
        ({"peft_type": "IA3"}, "mine: is an adapter of type 'IA3'; only LoRA adapters"),
        ({"r": 5}, "the adapter does not fit the model it stands on: Error(s) in loading state_dict"),
        ({"target_modules": ["nose"]}, "the adapter does not fit the model it stands on: Target modules {'nose'} not"),
        ({"target_modules": ["q_proj"]}, "has modules for 4 of its 8 matrices"),
        ({"target_modules": ["q_proj", "k_proj", "down_proj"]}, "Found missing adapter keys"),
    ],
)
def test_adapters_that_cannot_be_used(
    tmp_path: Path, data: Path, base: Path, changes: dict[str, Any], says: str
) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    change_config(adapter, **changes)
    result = train(data, tmp_path / "new", model=adapter)
    assert result.exit_code == 2, result.output
    assert says in result.stderr.splitlines()[-1]


def test_weights_that_are_pickled_are_not_read(tmp_path: Path, data: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    result = train(data, tmp_path / "new", model=adapter)
    assert result.exit_code == 2
    assert "mine: no adapter_model.safetensors; other weight files can run code" in result.stderr.splitlines()[-1]


def test_a_base_in_few_bits_is_refused(tmp_path: Path, data: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    result = train(data, tmp_path / "new", model=adapter)
    assert result.exit_code == 2
    said = result.stderr.splitlines()[-1]
    assert "holds quantised weights (bitsandbytes)" in said
    assert "name the same model in full precision" in said


def test_embeddings_beside_the_matrices_are_not_lost(tmp_path: Path, data: Path, base: Path) -> None:
    """PEFT writes whole embeddings into an adapter where tokens were added, or where it is told to."""
    adapter = make_adapter(tmp_path / "mine", base)
    file = adapter / "adapter_model.safetensors"
    embeddings = load_file(base / "model.safetensors")["model.embed_tokens.weight"] * 1.5
    save_file(load_file(file) | {"base_model.model.model.embed_tokens.weight": embeddings}, file)
    expected = as_peft_loads_it(adapter, base)
    assert not torch.allclose(expected, as_peft_loads_it(make_adapter(tmp_path / "without", base), base), atol=1e-3)
    more = ("--max-steps", "1", "--learning-rate", "1e-9")
    succeeded(train(data, tmp_path / "new", *more, model=adapter))
    model, _, info = load_model(tmp_path / "new", torch.float32, "cpu")
    assert info.kind == "full"
    torch.testing.assert_close(told(model), expected, atol=1e-4, rtol=1e-4)
