"""``_`` and ``_n`` of templates, and the texts that a page hands to its scripts.

The English texts stand in the templates and their translations in our own catalogues: both are markup that we wrote.
Values put into them are escaped as everywhere.
"""

from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from app.language import catalogues, current, say
from app.language.negotiation import DEFAULT
from app.language.recall import recalled
from app.language.texts import PLACEHOLDER


def say_text(msgid: str, /, **values: Any) -> Markup:
    """A text in the reader's language, as markup."""
    form = _form(current(), msgid)
    return _filled(form, values) if values else form


def say_number(one: str, many: str, count: int, /, **values: Any) -> Markup:
    """A text that depends on a number, which is also its value ``n`` unless another is given."""
    form = catalogues.translations(current()).ngettext(one, many, count)
    return _filled(form, {"n": count, **values})


def said(text: Any, *, capital: bool = False) -> Any:
    """A text out of the database, where it is English, in the reader's language if a message of ours says it.

    What is said nowhere (a log's line, an engine's complaint) is marked as English, so that it is set and read as such.

    Args:
        text: may also be no text at all; then it stays as it is.
        capital: begins with a capital letter.
    """
    if not isinstance(text, str) or not text:
        return text
    found = recalled(text, current())
    shown = found or text
    shown = shown[:1].upper() + shown[1:] if capital else shown
    return shown if found or current() == DEFAULT else Markup('<bdi lang="en">{}</bdi>').format(shown)


@lru_cache
def for_scripts(tag: str) -> Markup:
    """The texts of the scripts, for a ``<script type="application/json">``."""
    return Markup(catalogues.for_scripts(tag))  # noqa: S704 - holds no "<"


@lru_cache(maxsize=8192)
def _form(tag: str, msgid: str) -> Markup:
    return Markup(catalogues.translations(tag).gettext(msgid))  # noqa: S704 - of templates and catalogues, both ours


def _filled(form: str, values: dict[str, Any]) -> Markup:
    return Markup(PLACEHOLDER.sub(lambda place: str(escape(say(values[place[1]]))), form))  # noqa: S704 - as above
