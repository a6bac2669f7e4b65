"""How long a conversation is for the current version: its own chat template and tokenizer, without torch.

Used where a version's directory can be read by the web process; elsewhere the refill finds out, and marks the prompt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from app.db.tables import Project
from app.language import _
from app.language.figures import Figure
from app.settings import Settings
from app.versions.files import directory
from app.versions.queries import current

LengthCheck = Callable[[Sequence[Mapping[str, str]]], str | None]
"""Why the version could not answer a conversation, with both numbers and what to do; None if it could."""

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True)
class Prompter:
    """Writes conversations as a version reads them."""

    tokenizer: Tokenizer
    template: Any
    special: dict[str, str]

    def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens of the conversation as the model sees it, the opening of its answer included.

        Raises:
            TemplateError: the template refuses it, for example a system message.
        """
        text = self.template.render(
            messages=[dict(message) for message in messages], add_generation_prompt=True, **self.special
        )
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


def length_check(db: Session, project: Project, *, settings: Settings) -> LengthCheck | None:
    """The check for the project's current version; None without one, or where its directory is out of reach."""
    version = current(db, project)
    if version is None:
        return None
    prompter = load(directory(settings.versions_dir, version.id))
    if prompter is None:
        return None
    limit = version.context_length

    def check(messages: Sequence[Mapping[str, str]]) -> str | None:
        try:
            count = prompter.count(messages)
        except TemplateError as error:
            return _(
                "the model's chat template refuses it: %(error)s; leave out what the model does not know", error=error
            )
        if count < limit:
            return None
        return _(
            "%(count)s tokens with the chat template, and the model reads at most %(limit)s, its answer included; "
            "shorten it",
            count=Figure(count),
            limit=Figure(limit),
        )

    return check


def load(folder: Path) -> Prompter | None:
    """Tokenizer and template of a version's directory, which never changes; None if it is not there or has neither."""
    return _load(folder) if (folder / "tokenizer.json").is_file() else None


@lru_cache(maxsize=8)
def _load(folder: Path) -> Prompter | None:
    config = _json(folder / "tokenizer_config.json")
    source = _template(folder, config)
    if source is None:
        return None
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
    )
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    special = _json(folder / "special_tokens_map.json") | config
    return Prompter(
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
        template=environment.from_string(source),
        special={name: text for name in _SPECIAL if (text := _token(special.get(name))) is not None},
    )


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _token(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) else {}


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - what templates expect, as in transformers
