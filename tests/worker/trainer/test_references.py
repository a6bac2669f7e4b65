"""``--reference`` as one has it: a version, a model directory, a hub id; and models that cannot be one."""

import json
from pathlib import Path
from typing import Any

from app.versions.manifest import VersionInfo, read_digest, verify, write_manifest
from tests.factories.models import copy_version, version_directory, write_version
from tests.worker.trainer.running import events
from tests.worker.trainer.test_base import hub, models, plain, succeeded
from tests.worker.trainer.test_cli import _signals_as_before, data, train

__all__ = ["_signals_as_before", "data", "hub", "models"]


def metrics(output: Path) -> dict[str, Any]:
    return VersionInfo.read(output).metrics["eval"]["start"]


def test_a_model_directory_is_a_reference_as_the_version_made_of_it_is(tmp_path: Path, data: Path) -> None:
    version, directory = version_directory("llama", 7), plain(tmp_path / "plain", 7)
    succeeded(train(data, tmp_path / "one", "--max-steps", "1", "--reference", str(version)))
    succeeded(train(data, tmp_path / "two", "--max-steps", "1", "--reference", str(directory)))
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")
    assert metrics(tmp_path / "one")["kl"] > 0.1, "the reference is another model than the start"
    verify(tmp_path / "two.reference")
    assert not (tmp_path / "one.reference").exists()
    told = VersionInfo.read(tmp_path / "two").spec["reference"]
    assert told["path"] == str(tmp_path / "two.reference")
    assert told["digest"] == read_digest(tmp_path / "two.reference")


def test_a_folder_computes_the_log_probs_of_a_reference_once(tmp_path: Path, data: Path) -> None:
    """The second output links to the first one's copy. Another reference makes it again, whatever was trained."""
    directory, other = plain(tmp_path / "plain", 7), plain(tmp_path / "other", 8)
    for name in ("one", "two"):
        succeeded(train(data, tmp_path / name, "--max-steps", "1", "--reference", str(directory)))
    computed = [
        [e["phase"] for e in events(tmp_path / f"{n}.job", "phase")][1:2] == ["reference"] for n in ("one", "two")
    ]
    assert computed == [True, False]
    weights = [tmp_path / f"{name}.reference" / "model.safetensors" for name in ("one", "two")]
    assert weights[0].samefile(weights[1])
    (tmp_path / "two").rename(tmp_path / "kept")
    succeeded(train(data, tmp_path / "two", "--max-steps", "1", "--reference", str(other)))
    assert weights[1].read_bytes() == (other / "model.safetensors").read_bytes()
    assert metrics(tmp_path / "two") != metrics(tmp_path / "kept")


def test_the_model_itself_by_name_is_the_start(tmp_path: Path, data: Path) -> None:
    directory = plain(tmp_path / "plain", 7)
    result = train(data, tmp_path / "new", "--max-steps", "1", "--reference", str(directory), model=directory)
    succeeded(result)
    assert metrics(tmp_path / "new")["kl"] < 1e-6
    spec = VersionInfo.read(tmp_path / "new").spec
    assert spec["start"]["digest"] == spec["reference"]["digest"]


def test_a_hub_id_is_a_reference(tmp_path: Path, data: Path, hub: dict[str, str]) -> None:
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", "--reference", "owner/name"))
    assert VersionInfo.read(tmp_path / "new.reference").source == {"hub": "owner/name", "revision": "c0ffee"}
    assert hub["fetched"] == "c0ffee "


def test_a_reference_with_another_tokenizer_is_refused(tmp_path: Path, data: Path) -> None:
    directory = plain(tmp_path / "plain", 7)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[20:22]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    result = train(data, tmp_path / "new", "--reference", str(directory))
    assert result.exit_code == 2
    said = result.stderr.splitlines()[-1]
    assert f"the reference {directory} has another vocabulary than the start: 4 tokens differ" in said
    assert "name a reference with the start's tokenizer" in said


def test_a_reference_with_a_shorter_context_is_refused(tmp_path: Path, data: Path) -> None:
    """GPT-2 has learned positions: behind the last one it would fail, and others would be told nonsense."""
    row = {"prompt": "tea and boat " * 9, "chosen": "boat", "rejected": "rain"}
    with data.open("a") as file:
        file.write(json.dumps(row) + "\n")
    short = tmp_path / "short"
    write_version(short, "gpt2", n_positions=16)
    VersionInfo(kind="full", context_length=16).write(short)
    write_manifest(short)
    result = train(data, tmp_path / "new", "--reference", str(copy_version(short, tmp_path / "copy")))
    assert result.exit_code == 2
    assert "has a context of 16 tokens, and prompt and completion together have up to" in result.stderr
    assert "set max_length to 16" in result.stderr.splitlines()[-1]
    succeeded(train(data, tmp_path / "new", "--reference", str(short), "--max-length", "16", "--max-steps", "1"))
