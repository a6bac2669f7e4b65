"""Where version 1 comes from: a local directory, looked at here without torch, or a model id on the hub."""

import json
import re
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class BaseModelError(ValueError):
    """A base model that cannot become version 1; the message says what to do."""


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form owner/name of a model on the hub (and is not meant as a path)."""
    return _HUB_ID.fullmatch(text) is not None


def check(text: str) -> str:
    """What to store as a project's base model: a hub id as it is, a directory with its absolute path.

    A directory is looked at at once: configuration, safetensors weights, tokenizer and chat template must be
    there. Whether they can be loaded shows in the import.

    Raises:
        BaseModelError: neither of the two, or something is missing in the directory.
    """
    text = text.strip()
    if not text:
        raise BaseModelError("say where the model is: a directory on the server, or a hub id such as 'owner/name'")
    if "\0" in text:
        raise BaseModelError("a path cannot hold a null character")
    path = Path(text).expanduser()
    if is_hub_id(text) and not path.is_dir():
        return text
    if not path.is_absolute() and not text.startswith((".", "~")) and not path.is_dir():
        raise BaseModelError(
            f"{text!r} is neither a hub id (it has the form 'owner/name') nor a directory on the server; "
            "give a directory by its full path, such as '/models/llama'"
        )
    _check_directory(path)
    return str(path.resolve())


def _check_directory(path: Path) -> None:
    try:
        if not path.exists():
            raise BaseModelError(f"{path} does not exist on the server; check the path, or copy the model there")
        if not path.is_dir():
            raise BaseModelError(f"{path} is a file; give the directory that holds config.json and the weights")
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise BaseModelError(
            f"{path} cannot be read by the server ({error.strerror}); let the user that runs Hone read it"
        ) from error
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise BaseModelError(f"{path} is a LoRA adapter; merge it into its base model first, then give the result")
        raise BaseModelError(f"{path} has no config.json, so it is not a transformers model directory")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(entry.name for pattern in _PICKLED for entry in path.glob(pattern))
        if pickled:
            raise BaseModelError(
                f"{path} has its weights in {pickled[0]}, and Hone loads safetensors only (pickled weights can run "
                "code); convert to safetensors: load it with transformers and call save_pretrained()"
            )
        raise BaseModelError(f"{path} has no *.safetensors file, so there are no weights to start from")
    if not names.intersection(_TOKENIZER_FILES):
        raise BaseModelError(
            f"{path} has no tokenizer (looked for {', '.join(_TOKENIZER_FILES)}); "
            "save it there with tokenizer.save_pretrained()"
        )
    _json(path / "config.json")
    if not _has_chat_template(path, names):
        raise BaseModelError(
            f"{path} has no chat template, so conversations cannot be written for it; "
            "use an instruction-tuned model, or set tokenizer.chat_template and save the tokenizer there"
        )


def _has_chat_template(path: Path, names: set[str]) -> bool:
    if names.intersection(_TEMPLATE_FILES):
        return True
    return "tokenizer_config.json" in names and bool(_json(path / "tokenizer_config.json").get("chat_template"))


def _json(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{file} cannot be read as JSON ({error}); copy the model again") from error
    if not isinstance(data, dict):
        raise BaseModelError(f"{file} must hold a JSON object; copy the model again")
    return data
