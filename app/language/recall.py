"""Texts that were written down in English, with their values in them, said again in another language.

The database keeps what happened as the English text of that moment. Here such a text is recognised by the message it
was made of: 'version 3 was promoted' is ``version %(number)s was promoted`` with 3 in its place.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from app.language.catalogues import messages, translations
from app.language.negotiation import DEFAULT
from app.language.texts import PLACEHOLDER, filled, separator

_FEWEST_LETTERS = 7
"""Of a message's own: one with fewer would recognise itself in anything."""
_LONGEST = 2000
"""Characters of a text that is looked at: what is longer is a log."""


@dataclass(frozen=True, slots=True)
class _Form:
    pattern: re.Pattern[str]
    one: str
    many: str | None


def recalled(text: str, tag: str) -> str | None:
    """The text in another language; None if no message says it."""
    return None if tag == DEFAULT or not text or len(text) > _LONGEST else _recalled(text, tag)


@lru_cache(maxsize=4096)
def _recalled(text: str, tag: str) -> str | None:
    known = translations(tag)
    exact = known.gettext(text)
    if exact != text:
        return exact
    for form in _forms(tag):
        match = form.pattern.fullmatch(text)
        if match is None:
            continue
        values = {name: _recalled(value, tag) or value for name, value in match.groupdict().items()}
        if form.many is None:
            return filled(known.gettext(form.one), values)
        if match["n"].isdecimal():
            return filled(known.ngettext(form.one, form.many, int(match["n"])), values)
    parts = text.split("; ")
    found = [_recalled(part, tag) for part in parts] if len(parts) > 1 else []
    if any(found):
        return separator("; ", tag).join(said or part for said, part in zip(found, parts, strict=True))
    return None


@lru_cache
def _forms(tag: str) -> tuple[_Form, ...]:
    """The messages with places in them, those that say most of themselves first."""
    found: list[tuple[int, _Form]] = []
    for one, many in messages(tag):
        for form in (one, many) if many is not None else (one,):
            own = sum(char.isalpha() for char in PLACEHOLDER.sub("", form))
            if own >= _FEWEST_LETTERS and PLACEHOLDER.search(form) and (many is None or "%(n)s" in form):
                found.append((own, _Form(_pattern(form), one, many)))
    return tuple(form for _own, form in sorted(found, key=lambda item: -item[0]))


def _pattern(form: str) -> re.Pattern[str]:
    seen: set[str] = set()
    parts: list[str] = []
    end = 0
    for place in PLACEHOLDER.finditer(form):
        name = place[1]
        parts += [re.escape(form[end : place.start()]), f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"]
        seen.add(name)
        end = place.end()
    return re.compile("".join(parts) + re.escape(form[end:]), re.DOTALL)
