"""The base beside an output: what it was made of, and what becomes of it when another model is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from app.versions.manifest import VersionInfo, read_digest, verify
from tests.factories.models import copy_version, version_directory
from tests.worker.trainer.test_cli import _signals_as_before, data, train
from worker.imports import import_base
from worker.models import ModelError
from worker.trainer.base import base_of

__all__ = ["_signals_as_before", "data"]


def plain(directory: Path, seed: int) -> Path:
    """A model directory that is no version."""
    copy_version(version_directory("llama", seed), directory)
    (directory / "manifest.json").unlink()
    (directory / "version.json").unlink()
    return directory


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    return plain(tmp_path / "A", 0), plain(tmp_path / "B", 7)


def weights(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def succeeded(result: Result) -> None:
    assert result.exit_code == 0, result.output


def test_another_model_is_imported_where_nothing_was_trained(
    tmp_path: Path, data: Path, models: tuple[Path, Path]
) -> None:
    one, other = models
    succeeded(train(data, tmp_path / "new", "--dry-run", model=one))
    assert weights(tmp_path / "new.base") == weights(one)
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", model=other))
    assert weights(tmp_path / "new.base") == weights(other)
    assert VersionInfo.read(tmp_path / "new.base").source["path"] == str(other)


def test_another_model_is_refused_where_something_stands_on_the_first(
    tmp_path: Path, data: Path, models: tuple[Path, Path]
) -> None:
    one, other = models
    output = tmp_path / "new"
    succeeded(train(data, output, "--max-steps", "1", model=one))
    output.rename(tmp_path / "kept")
    result = train(data, output, "--max-steps", "1", model=other)
    assert result.exit_code == 2
    assert f"new.base was made of {one}, and --model {other} is another" in result.stderr.splitlines()[-1]
    assert "name another --output" in result.stderr.splitlines()[-1]
    verify(VersionInfo.read(tmp_path / "kept").base_directory(tmp_path / "kept"))
    succeeded(train(data, output, "--max-steps", "1", model=one))


def test_a_model_that_changed_is_another(tmp_path: Path, data: Path, models: tuple[Path, Path]) -> None:
    one, other = models
    succeeded(train(data, tmp_path / "new", "--max-steps", "1", model=one))
    (tmp_path / "new").rename(tmp_path / "kept")
    (one / "model.safetensors").write_bytes(weights(other))
    result = train(data, tmp_path / "new", model=one)
    assert result.exit_code == 2
    assert "is that model with other files" in result.stderr.splitlines()[-1]


def test_outputs_of_one_folder_share_the_weights_of_their_base(tmp_path: Path, models: tuple[Path, Path]) -> None:
    """Of Hone's own copies: a link to the model itself would change with it."""
    one, other = models
    first, second, third = (tmp_path / f"{name}.base" for name in ("a", "b", "c"))
    base_of(str(one), first, tmp_path / "a.job")
    base_of(str(one), second, tmp_path / "b.job")
    base_of(str(other), third, tmp_path / "c.job")
    assert (first / "model.safetensors").samefile(second / "model.safetensors")
    assert not (first / "model.safetensors").samefile(one / "model.safetensors")
    assert verify(first) == verify(second)
    assert weights(third) == weights(other)
    (first / "config.json").unlink()  # no longer whole, and so no twin
    base_of(str(one), tmp_path / "d.base", tmp_path / "d.job")
    assert verify(tmp_path / "d.base")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, models: tuple[Path, Path]) -> dict[str, str]:
    """A hub that has one model, at the revision in 'sha'."""
    state = {"sha": "c0ffee", "fetched": ""}

    def fetch(_name: str, *, revision: str, local_dir: str, **_options: Any) -> None:
        state["fetched"] += revision + " "
        for file in models[0].iterdir():
            (Path(local_dir) / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.setattr("huggingface_hub.model_info", lambda _name, **_options: type("Info", (), {"sha": state["sha"]}))
    return state


def test_a_hub_id_stays_one(tmp_path: Path, data: Path, hub: dict[str, str]) -> None:
    """The adapter names it with the commit that was fetched, as PEFT writes it; the base is fetched once."""
    output = tmp_path / "new"
    for name in ("new", "more"):
        result = train(data, tmp_path / name, "--max-steps", "1", model=Path("owner/name"))
        assert result.exit_code == 0, result.output
    assert hub["fetched"] == "c0ffee "
    assert VersionInfo.read(tmp_path / "new.base").source == {"hub": "owner/name", "revision": "c0ffee"}
    config = json.loads((output / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", "c0ffee")
    assert VersionInfo.read(output).base_directory(output) == tmp_path / "new.base"
    hub["sha"] = "decaf"
    base_of("owner/name", tmp_path / "new.base", tmp_path / "new.job")
    base_of("owner/name", tmp_path / "later.base", tmp_path / "later.job")
    assert hub["fetched"] == "c0ffee decaf "


def test_a_model_that_is_not_there_is_named_beside_other_bases_too(tmp_path: Path, models: tuple[Path, Path]) -> None:
    base_of(str(models[0]), tmp_path / "a.base", tmp_path / "a.job")
    with pytest.raises(ModelError, match="nowhere: no such directory, and not a hub id"):
        base_of("nowhere", tmp_path / "b.base", tmp_path / "b.job")


def test_an_import_says_what_it_was_made_of(tmp_path: Path, models: tuple[Path, Path]) -> None:
    info = import_base(models[0], tmp_path / "staged")
    assert info.source["files"]["model.safetensors"][0] == (models[0] / "model.safetensors").stat().st_size
    assert read_digest(tmp_path / "staged") == verify(tmp_path / "staged")
