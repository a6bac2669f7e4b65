"""A published version opens unchanged in transformers and PEFT, and is laid out as vLLM wants an adapter."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.versions.manifest import VersionInfo
from tests.factories.jobs import encode_prompt, make_groups, write_job
from tests.factories.models import random_model, version_directory
from tests.worker.trainer.running import events
from worker.models import load_model, old_names_of_peft
from worker.trainer.errors import RefusedError
from worker.trainer.job import run
from worker.trainer.lifetime import Stop


def trained(job: Path, architecture: str = "llama", **settings: Any) -> Path:
    """The version of a short job."""
    start = version_directory(architecture)
    return run(write_job(job, groups=make_groups(8, 2), start=start, **settings), "a", Stop(), lambda _event: None)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model.eval()(input_ids=torch.tensor([encode_prompt("tea boat")])).logits
    return output


def our_logits(version: Path) -> torch.Tensor:
    return logits(load_model(version, torch.float32, "cpu")[0])


@pytest.mark.parametrize("settings", [{}, {"lora_rslora": True, "lora_targets": ["q_proj", "down_proj"]}])
def test_adapter_in_transformers_and_peft(tmp_path: Path, settings: dict[str, Any]) -> None:
    """From the directory alone: it names its base."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    version = trained(tmp_path / "job", **settings)
    assert VersionInfo.read(version).kind == "adapter"
    ours = our_logits(version)
    assert not torch.allclose(ours, logits(random_model("llama")), atol=1e-3)
    with old_names_of_peft():
        adapted = AutoPeftModelForCausalLM.from_pretrained(version)
        through_transformers = AutoModelForCausalLM.from_pretrained(version, dtype=torch.float32)
    torch.testing.assert_close(logits(adapted), ours)
    torch.testing.assert_close(logits(through_transformers), ours)
    assert AutoTokenizer.from_pretrained(version).chat_template


def test_dora_is_published_merged(tmp_path: Path) -> None:
    """vLLM loads no DoRA adapter: the version is a full model that answers as the trained one did."""
    from transformers import AutoModelForCausalLM

    version = trained(tmp_path / "job", lora_dora=True, eval_every_steps=1)
    info = VersionInfo.read(version)
    assert (info.kind, info.base) == ("full", None)
    assert not (version / "adapter_config.json").exists()
    held_out = events(tmp_path / "job", "eval")
    assert held_out[0]["loss"] == pytest.approx(0.693147, abs=1e-4), "an untrained DoRA adapter changes nothing"
    assert held_out[-1]["loss"] < held_out[0]["loss"]
    model = AutoModelForCausalLM.from_pretrained(version, dtype=torch.float32)
    torch.testing.assert_close(logits(model), our_logits(version))
    assert not torch.allclose(logits(model), logits(random_model("llama")), atol=1e-3)


def test_a_version_that_is_no_longer_plain_lora_is_merged_before_going_on(tmp_path: Path) -> None:
    """rsLoRA scales otherwise, so the adapter of the round before is another shape."""
    first = trained(tmp_path / "1")
    job = write_job(tmp_path / "2", groups=make_groups(8, 2), start=first, lora_rslora=True, max_steps=1)
    second = run(job, "a", Stop(), lambda _event: None)
    assert VersionInfo.read(second).kind == "full"


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_adapter_as_vllm_reads_it(tmp_path: Path, architecture: str) -> None:
    """vLLM takes r, lora_alpha, target_modules and use_rslora, refuses DoRA, biases and modules_to_save, finds a
    module by stripping 'base_model.model.' and '.lora_A.weight', and knows it by its last name."""
    version = trained(tmp_path / "job", architecture)
    config = json.loads((version / "adapter_config.json").read_text())
    assert (config["peft_type"], config["bias"], config["modules_to_save"]) == ("LORA", "none", None)
    assert not config["use_dora"]
    assert not config["rank_pattern"]
    modules = dict(random_model(architecture).named_modules())
    tensors = load_file(version / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B)\.weight", name)
        assert found is not None, name
        weight = modules[found[1]].weight
        assert found[1].rpartition(".")[2] in config["target_modules"]
        assert tuple(tensor.shape) == ((4, weight.shape[1]) if found[2] == "A" else (weight.shape[0], 4))
    assert len(tensors) == 2 * sum(name.rpartition(".")[2] in config["target_modules"] for name in modules)


def test_qlora_without_a_gpu_is_refused(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", method="qlora")
    with pytest.raises(RefusedError, match="this machine trains on cpu; use method 'lora'"):
        run(job, "a", Stop(), lambda _event: None)
