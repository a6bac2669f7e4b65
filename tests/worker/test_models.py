"""Loading versions and importing base models: whole ones come through, everything else is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.versions.manifest import ManifestError, VersionInfo, verify, write_manifest
from tests.factories.models import copy_version, version_directory
from worker.imports import import_base
from worker.models import ModelError, load_model, load_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory as one finds them: no manifest, no version.json."""
    directory = copy_version(version_directory("llama"), tmp_path / "found")
    (directory / "manifest.json").unlink()
    (directory / "version.json").unlink()
    return directory


def test_import_makes_a_full_version(model: Path, tmp_path: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    (model / "modeling.py").write_text("raise SystemExit")
    (model / "training_args.bin").write_bytes(b"pickle")
    info = import_base(model, tmp_path / "staged")
    verify(tmp_path / "staged")
    assert (info.kind, info.context_length) == ("full", 256)
    assert VersionInfo.read(tmp_path / "staged") == info
    assert {path.name for path in (tmp_path / "staged").iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "version.json",
    }
    loaded, tokenizer, _ = load_model(tmp_path / "staged", torch.float32, "cpu")
    assert not loaded.training
    assert tokenizer.chat_template


def test_import_writes_down_what_ends_an_answer(model: Path, tmp_path: Path) -> None:
    (model / "generation_config.json").write_text("{}")
    import_base(model, tmp_path / "staged")
    assert json.loads((tmp_path / "staged" / "generation_config.json").read_text())["eos_token_id"] == 2


def test_sharded_weights_are_imported(model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    names = sorted(weights)
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, model / file, metadata={"format": "pt"})
    (model / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    import_base(model, tmp_path / "staged")
    assert load_model(tmp_path / "staged", torch.float32, "cpu")[2].kind == "full"
    (model / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names \['b.safetensors'\]"):
        import_base(model, tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("model.safetensors", None, "no safetensors"),
        ("model.safetensors", "no tensors", "not a whole safetensors file"),
        ("config.json", None, "no config.json"),
        ("config.json", '{"model_type": "mystery", "auto_map": {}}', "unknown architecture 'mystery'"),
        ("config.json", "[]", "holds list"),
        ("tokenizer.json", None, "no tokenizer"),
        ("chat_template.jinja", None, "no chat template"),
    ],
)
def test_what_is_missing_is_named(model: Path, tmp_path: Path, name: str, text: str | None, says: str) -> None:
    (model / name).unlink()
    if text is not None:
        (model / name).write_text(text)
    with pytest.raises(ModelError, match=says):
        import_base(model, tmp_path / "staged")


def test_a_context_that_is_not_said(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    del config["max_position_embeddings"]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="context length"):
        import_base(model, tmp_path / "staged")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nowhere", "too/many/parts", Path("owner/name")])
def test_a_name_that_is_no_directory_and_no_hub_id(tmp_path: Path, name: str | Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        import_base(name, tmp_path / "staged")


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there: an error of the HTTP client's own, which is no OSError."""
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"could not be fetched from the hub: .*refused.*; see to the network") as said:
        import_base("owner/name", tmp_path / "staged")
    assert "\n" not in str(said.value)


def test_damage_is_noticed_before_loading(tmp_path: Path) -> None:
    version = copy_version(version_directory("llama"), tmp_path / "v")
    (version / "config.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"config.json: 2 bytes"):
        load_model(version, torch.float32, "cpu")


def test_missing_weights_are_never_random(tmp_path: Path) -> None:
    version = copy_version(version_directory("llama"), tmp_path / "v")
    weights = load_file(version / "model.safetensors")
    name = max(weights)
    del weights[name]
    save_file(weights, version / "model.safetensors", metadata={"format": "pt"})
    write_manifest(version)
    with pytest.raises(ModelError, match=f"lack 1 weights .*{name}"):
        load_model(version, torch.float32, "cpu")


def test_tokenizer_without_template_is_refused(tmp_path: Path) -> None:
    version = copy_version(version_directory("llama"), tmp_path / "v")
    (version / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"add chat_template\.jinja"):
        load_tokenizer(version)
    assert not load_tokenizer(version, converses=False).chat_template


def test_a_model_that_never_converses_needs_no_template(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert import_base(model, tmp_path / "staged", converses=False).kind == "full"
