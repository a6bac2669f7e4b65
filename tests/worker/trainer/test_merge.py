"""``hone merge``: a whole model out of an adapter, which says what the adapter on its base says."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from app.versions.manifest import VersionInfo, read_digest, verify
from tests.factories.adapters import as_peft_loads_it, make_adapter, told
from tests.factories.jobs import write_job
from tests.factories.models import version_directory
from tests.worker.test_hub import COMMIT, cache, cached_model
from tests.worker.trainer.test_base import plain
from tests.worker.trainer.test_cli import _signals_as_before, data, train
from tests.worker.trainer.test_versions import quiet
from worker.models import load_model
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.merge import app

__all__ = ["_signals_as_before", "base", "cache", "data"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model directory that is no version."""
    return plain(tmp_path / "base model", 0)


def merge(source: Path, output: Path, *more: str) -> Result:
    return CliRunner().invoke(app, [str(source), "--output", str(output), *more])


def opened(directory: Path) -> torch.Tensor:
    return told(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_version_becomes_a_whole_model(tmp_path: Path, architecture: str) -> None:
    start = version_directory(architecture)
    adapter = run(write_job(tmp_path / "job", start=start), "a", Stop(), quiet)
    result = merge(adapter, tmp_path / "whole")
    assert result.exit_code == 0, result.output
    assert "its logits differ by at most" in result.output
    expected = told(load_model(adapter, torch.float32, "cpu")[0])
    assert not torch.allclose(expected, opened(start), atol=1e-2)
    torch.testing.assert_close(opened(tmp_path / "whole"), expected, atol=1e-4, rtol=1e-5)
    digest, info, trained = verify(tmp_path / "whole"), VersionInfo.read(tmp_path / "whole"), VersionInfo.read(adapter)
    assert (info.kind, info.base, info.context_length) == ("full", None, 256)
    assert info.source["merged"] == {"path": str(adapter), "digest": read_digest(adapter), "base": read_digest(start)}
    assert info.parent is not None
    assert info.parent.digest == read_digest(adapter)
    assert (info.spec, info.metrics) == (trained.spec, trained.metrics)
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    assert len({file.stat().st_mode for file in (tmp_path / "whole").iterdir()}) == 1, "all may be read by all"
    assert digest == read_digest(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "whole"]


def test_weights_in_half_are_half_as_large(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    for name in ("float32", "bfloat16"):
        result = merge(adapter, tmp_path / name, "--dtype", name)
        assert result.exit_code == 0, result.output
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("float32", "bfloat16")]
    assert sizes[1] < 0.6 * sizes[0]
    expected = as_peft_loads_it(adapter, base)
    torch.testing.assert_close(opened(tmp_path / "float32"), expected, atol=1e-4, rtol=1e-5)
    assert 0 < float((opened(tmp_path / "bfloat16") - expected).abs().max()) < 0.1 * float(expected.abs().max())


def test_an_adapter_of_pefts_on_a_base_of_the_hubs_cache(tmp_path: Path, cache: Path) -> None:
    snapshot = cached_model(cache)
    (snapshot / "generation_config.json").unlink()
    adapter = make_adapter(tmp_path / "mine", snapshot, "owner/name")
    result = merge(adapter, tmp_path / "whole")
    assert result.exit_code == 0, result.output
    torch.testing.assert_close(opened(tmp_path / "whole"), as_peft_loads_it(adapter, snapshot), atol=1e-4, rtol=1e-5)
    info = VersionInfo.read(tmp_path / "whole")
    assert info.source["merged"]["base"] == {"hub": "owner/name", "revision": COMMIT}
    assert json.loads((tmp_path / "whole" / "generation_config.json").read_text())["eos_token_id"] == 2


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
def test_a_head_that_was_the_embedding_is_one_no_more(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base, target_modules=["lm_head"])
    result = merge(adapter, tmp_path / "whole")
    assert result.exit_code == 0, result.output
    torch.testing.assert_close(opened(tmp_path / "whole"), as_peft_loads_it(adapter, base), atol=1e-4, rtol=1e-5)


def test_a_base_in_few_bits_is_refused_and_another_can_be_named(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base)
    quantized = plain(tmp_path / "few bits", 0)
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    result = merge(adapter, tmp_path / "whole", "--base", str(quantized))
    assert result.exit_code == 2
    assert f"its base {quantized} holds quantised weights (gptq)" in result.stderr
    assert "name the same model in full precision" in result.stderr
    result = merge(adapter, tmp_path / "whole", "--base", str(base))
    assert result.exit_code == 0, result.output


def test_a_model_that_would_say_something_else_is_not_written(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging that forgets the adapter, as it would where its weights are not where PEFT looks for them."""
    adapter = make_adapter(tmp_path / "mine", base)
    monkeypatch.setattr("worker.trainer.merging.merged", lambda model, _source: model.unload())
    result = merge(adapter, tmp_path / "whole")
    assert result.exit_code == 2
    assert "has logits that differ by up to" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base model", "mine"]


def test_what_cannot_be_merged(tmp_path: Path, base: Path) -> None:
    version, adapter = version_directory("llama"), make_adapter(tmp_path / "mine", base)
    for source, more, says in (
        (version, (), "is a full model already; there is nothing to merge"),
        (base, (), "is no version and no adapter (it has no adapter_config.json)"),
        (adapter, ("--base", "nowhere"), "mine: the model it stands on: nowhere: no such directory"),
        (adapter, ("--base", str(plain(tmp_path / "other", 0) / "..")), "no config.json; is it a model directory?"),
        (adapter, ("--dtype", "int8"), "--dtype 'int8' is unknown; known are float32, bfloat16, float16"),
    ):
        result = merge(source, tmp_path / "whole", *more)
        assert result.exit_code == 2, result.output
        assert says in result.stderr
        assert not (tmp_path / "whole").exists()
    result = merge(adapter, base)
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_training_writes_the_whole_model_too(tmp_path: Path, data: Path) -> None:
    result = train(data, tmp_path / "new", "--max-steps", "1", "--learning-rate", "0.01", "--merge")
    assert result.exit_code == 0, result.output
    assert VersionInfo.read(tmp_path / "new").kind == "adapter"
    verify(tmp_path / "new.merged")
    expected = told(load_model(tmp_path / "new", torch.float32, "cpu")[0])
    torch.testing.assert_close(opened(tmp_path / "new.merged"), expected, atol=1e-4, rtol=1e-5)
    (tmp_path / "new").rename(tmp_path / "kept")
    result = train(data, tmp_path / "new", "--merge")
    assert result.exit_code == 2
    assert "new.merged exists already" in result.stderr
    result = train(data, tmp_path / "other", "--merge", "--method", "full")
    assert result.exit_code == 2
    assert "merge: means nothing where a full model is published; leave it out" in result.stderr
