"""Where version 1 comes from: a local directory, looked at here without torch, or a model id on the hub."""

import json
import re
from pathlib import Path

from app.language import _

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_SHOWN = 300
"""Characters of what was given that a message repeats."""
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
        raise BaseModelError(_("say where the model is: a directory on the server, or a hub id such as 'owner/name'"))
    if "\0" in text:
        raise BaseModelError(_("a path cannot hold a null character"))
    path = _path(text)
    if is_hub_id(text) and not _is_directory(path):
        return text
    if not path.is_absolute() and not text.startswith((".", "~")) and not _is_directory(path):
        raise BaseModelError(
            _(
                "%(text)s is neither a hub id (it has the form 'owner/name') nor a directory on the "
                "server; give a directory by its full path, such as '/models/llama'",
                text=repr(_short(text)),
            )
        )
    _check_directory(path)
    return str(path.resolve())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of a user whom the server does not have
        return Path(text)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False


def _check_directory(path: Path) -> None:
    try:
        if not path.exists():
            raise BaseModelError(
                _("%(path)s does not exist on the server; check the path, or copy the model there", path=path)
            )
        if not path.is_dir():
            raise BaseModelError(
                _("%(path)s is a file; give the directory that holds config.json and the weights", path=path)
            )
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise BaseModelError(
            _(
                "%(path)s cannot be read by the server (%(strerror)s); let the user that runs Hone read it",
                path=_short(str(path)),
                strerror=error.strerror,
            )
        ) from error
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise BaseModelError(
                _("%(path)s is a LoRA adapter; merge it into its base model first, then give the result", path=path)
            )
        raise BaseModelError(_("%(path)s has no config.json, so it is not a transformers model directory", path=path))
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(entry.name for pattern in _PICKLED for entry in path.glob(pattern))
        if pickled:
            raise BaseModelError(
                _(
                    "%(path)s has its weights in %(pickled)s, and Hone loads safetensors only (pickled "
                    "weights can run code); convert to safetensors: load it with transformers and call "
                    "save_pretrained()",
                    path=path,
                    pickled=pickled[0],
                )
            )
        raise BaseModelError(_("%(path)s has no *.safetensors file, so there are no weights to start from", path=path))
    if not names.intersection(_TOKENIZER_FILES):
        raise BaseModelError(
            _(
                "%(path)s has no tokenizer (looked for %(tokenizer_files)s); save it there with "
                "tokenizer.save_pretrained()",
                path=path,
                tokenizer_files=", ".join(_TOKENIZER_FILES),
            )
        )
    _json(path / "config.json")
    if not _has_chat_template(path, names):
        raise BaseModelError(
            _(
                "%(path)s has no chat template, so conversations cannot be written for it; use an "
                "instruction-tuned model, or set tokenizer.chat_template and save the tokenizer there",
                path=path,
            )
        )


def _has_chat_template(path: Path, names: set[str]) -> bool:
    if names.intersection(_TEMPLATE_FILES):
        return True
    return "tokenizer_config.json" in names and bool(_json(path / "tokenizer_config.json").get("chat_template"))


def _json(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(
            _("%(file)s cannot be read as JSON (%(error)s); copy the model again", file=file, error=error)
        ) from error
    if not isinstance(data, dict):
        raise BaseModelError(_("%(file)s must hold a JSON object; copy the model again", file=file))
    return data
