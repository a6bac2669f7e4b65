"""Catalogues: read from their .po files once in each process, so that there is nothing to compile or to install."""

import json
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from app.language.negotiation import DEFAULT

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

LOCALE = Path(__file__).resolve().parent.parent / "locale"
SCRIPTS = "app/static/js/"


def path(tag: str) -> Path:
    """Where the catalogue of a language is."""
    return LOCALE / tag / "LC_MESSAGES" / "messages.po"


@lru_cache
def translations(tag: str) -> NullTranslations:
    """What turns English texts into the language ``tag``; what is not in its catalogue stays English."""
    if tag == DEFAULT:
        return NullTranslations()
    from babel.messages.mofile import write_mo

    packed = BytesIO()
    write_mo(packed, _read(tag))
    packed.seek(0)
    return GNUTranslations(packed)


@lru_cache
def for_scripts(tag: str) -> str:
    """The texts that scripts say, as JSON for ``js/words.js``: text → translation, or a list of plural forms.

    No character of it can end a script element.
    """
    words: dict[str, object] = {}
    if tag != DEFAULT:
        for message in _read(tag):
            said = [message.string] if isinstance(message.string, str) else message.string
            if message.id and said and all(said) and any(name.startswith(SCRIPTS) for name, _ in message.locations):
                one = message.id if isinstance(message.id, str) else message.id[0]
                words[one] = message.string
    return json.dumps(words, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


@lru_cache
def messages(tag: str) -> tuple[tuple[str, str | None], ...]:
    """The English texts of Python that the catalogue of a language holds, each with its plural."""
    return tuple(
        (message.id, None) if isinstance(message.id, str) else (message.id[0], message.id[1])
        for message in _read(tag)
        if message.id and any(name.endswith(".py") for name, _line in message.locations)
    )


def _read(tag: str) -> "Catalog":
    from babel.messages.pofile import read_po  # only where another language is spoken: trainers know these texts too

    with path(tag).open("rb") as file:
        return read_po(file, locale=tag)
