"""Texts that are English for programs and are said in the reader's language on a page."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from app.language.catalogues import translations
from app.language.current import current
from app.language.negotiation import DEFAULT

PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class Text(str):
    """An English text that knows how to be said in other languages.

    It *is* the English text: JSON, logs and the database take it as it is. Pages say it by ``say``, which every
    expression of a template passes. Joining it to other strings makes it plain English again; put texts into each
    other as values instead.
    """

    __slots__ = ()

    def into(self, tag: str) -> str:
        """The text in another language."""
        raise NotImplementedError


class Message(Text):
    """One text of the catalogues, with values in its places."""

    __slots__ = ("_msgid", "_number", "_plural", "_values")

    _msgid: str
    _plural: str | None
    _number: int
    _values: Mapping[str, Any]

    def __new__(
        cls, msgid: str, values: Mapping[str, Any] | None = None, plural: str | None = None, number: int = 1
    ) -> Self:
        """The text ``msgid``, or ``plural`` where ``number`` is not one."""
        form = msgid if plural is None or number == 1 else plural
        made = super().__new__(cls, filled(form, values) if values else form)
        made._msgid, made._plural, made._number, made._values = msgid, plural, number, values or {}
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return (self._msgid, self._values, self._plural, self._number)

    def into(self, tag: str) -> str:
        """The text in another language."""
        if tag == DEFAULT:
            return str(self)
        known = translations(tag)
        one, many = self._msgid, self._plural
        form = known.gettext(one) if many is None else known.ngettext(one, many, self._number)
        return filled(form, self._values, tag) if self._values else form


class Sentence(Text):
    """A text with a capital letter and a full stop."""

    __slots__ = ("_text",)

    _text: str

    def __new__(cls, text: str) -> Self:
        """``text`` as a sentence."""
        made = super().__new__(cls, _ended(text))
        made._text = text
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return (self._text,)

    def into(self, tag: str) -> str:
        """The sentence in another language."""
        return _ended(str(_in(self._text, tag)))


class Listed(Text):
    """Several texts, one after the other with something between them."""

    __slots__ = ("_between", "_parts")

    _between: str
    _parts: tuple[str, ...]

    def __new__(cls, between: str, parts: Iterable[str]) -> Self:
        """``between``.join(parts)."""
        kept = tuple(parts)
        made = super().__new__(cls, between.join(kept))
        made._between, made._parts = between, kept
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return (self._between, self._parts)

    def into(self, tag: str) -> str:
        """The texts in another language."""
        return separator(self._between, tag).join(_in(part, tag) for part in self._parts)


def _(msgid: str, /, **values: Any) -> Text:
    """A text for people. The message is a literal, so that it can be extracted; values may be texts themselves."""
    return Message(msgid, values)


def _n(one: str, many: str, count: int, /, **values: Any) -> Text:
    """A text that depends on a number, which is also its value ``n`` unless another is given."""
    return Message(one, {"n": count, **values}, many, count)


def listed(parts: Iterable[str], between: str = "; ") -> Text:
    """Texts joined to one, each of which is said in the reader's language."""
    return Listed(between, parts)


_SEPARATORS = (_(", "), _("; "))
"""Of lists: other scripts have other commas."""


def separator(between: str, tag: str) -> str:
    """What stands between the parts of a list in a language; a plain space stays one."""
    return translations(tag).gettext(between) if between in _SEPARATORS else between


def sentence(text: str) -> Text:
    """A text that stands alone, with a capital letter and a full stop."""
    return Sentence(text)


def say(value: Any) -> Any:
    """A text in the language of now; anything else as it is."""
    return value.into(current()) if isinstance(value, Text) else value


def filled(form: str, values: Mapping[str, Any], tag: str = DEFAULT) -> str:
    """``form`` with its places filled.

    Raises:
        KeyError: a value for a place is missing.
    """
    return PLACEHOLDER.sub(lambda place: str(_in(values[place[1]], tag)), form)


def _ended(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "؟")) else f"{text}."


def _in(value: Any, tag: str) -> Any:
    return value.into(tag) if isinstance(value, Text) else value
