"""A base model directory is looked at before anything is queued, and says what it lacks."""

import json
from pathlib import Path

import pytest

from app.projects.base_model import BaseModelError, check


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with the names and JSON that ``check`` looks at."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return directory


def refused(path: Path | str) -> str:
    with pytest.raises(BaseModelError) as caught:
        check(str(path))
    return str(caught.value)


def test_a_complete_directory_is_stored_by_its_absolute_path(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(f" {model} ") == str(model.resolve())
    monkeypatch.chdir(model.parent)
    assert check("./model") == str(model.resolve())
    assert check("model") == str(model.resolve())


def test_a_template_in_its_own_file_will_do(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{}")
    assert "no chat template" in refused(model)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert check(str(model)) == str(model.resolve())


def test_a_hub_id_is_kept_as_it_is() -> None:
    assert check("meta-llama/Llama-3.1-8B-Instruct") == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    "text", ["", "  ", "just-a-name", "a/b/c", "owner/na me", "owner/", "/no/such/directory", "a\0b"]
)
def test_neither_a_directory_nor_a_hub_id(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("text", ["a" * 60_000, "/" + "a" * 60_000, "./" + "a/" * 30_000, "~nobody-here/model"])
def test_what_no_file_system_takes_is_refused_in_a_message_that_can_be_read(text: str) -> None:
    assert len(refused(text)) < 600


def test_a_missing_directory_and_a_file_say_so(model: Path) -> None:
    assert "does not exist on the server" in refused(model / "nothing")
    assert "is a file" in refused(model / "config.json")


def test_pickled_weights_are_told_how_to_become_safetensors(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    said = refused(model)
    assert "convert to safetensors" in said
    assert "pytorch_model.bin" in said


def test_no_weights_no_tokenizer_no_config(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(model)
    (model / "model.safetensors").unlink()
    assert "no *.safetensors file" in refused(model)
    (model / "config.json").rename(model / "adapter_config.json")
    assert "LoRA adapter" in refused(model)
    (model / "adapter_config.json").unlink()
    assert "no config.json" in refused(model)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_broken_config_is_named(model: Path, content: str) -> None:
    (model / "config.json").write_bytes(content.encode("latin-1"))
    assert "config.json" in refused(model)
