"""Every word of every page, in a made-up language: what a page says past the catalogues is in plain letters."""

import re
from collections.abc import Iterator
from gettext import NullTranslations
from html.parser import HTMLParser

import pytest

from app.accounts.scopes import SCOPES
from app.language import catalogues, texts
from app.rounds.spec import LOSSES
from app.web import words
from tests.db.test_routes import House, house

__all__ = ["house"]

_SPOKEN = ("alt", "title", "placeholder", "aria-label", "data-label", "data-said")
_NOT_PROSE = {"script", "style", "code", "pre", "kbd"}
_EMPTY = {"meta", "link", "input", "br", "hr", "img", "path", "line", "circle"}
_DATA = re.compile(
    r"(Person|Project) \d+|person\d+@example\.org|Question \d+: what should I cook\?|Answer \d+\.|Hone|all"
    r"|\d+\. \w+\.? \d{4}, [\d:]+ UTC|\d+ \w+\.? \d{4}, [\d:]+ UTC|English|Deutsch|العربية"
)
"""What the rows of the test and the names of things say, which nobody translates."""


class _MadeUp(NullTranslations):
    """Says of every text only that it came this way."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.said += [value for name, value in attrs if name in _SPOKEN and value]
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not _NOT_PROSE.intersection(self._open):
            self.said.append(data)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = _MadeUp()
    words._form.cache_clear()
    monkeypatch.setattr(catalogues, "translations", lambda _tag: made)
    monkeypatch.setattr(texts, "translations", lambda _tag: made)
    yield
    words._form.cache_clear()


def plain_words(html: str) -> set[str]:
    """What is left of a page without what went through the catalogues, and without data."""
    reader = _Reader()
    reader.feed(html)
    text = "\n".join(reader.said)
    while "⟦" in text:
        text = re.sub("⟦[^⟦⟧]*⟧", " ", text)
    for name in sorted((*SCOPES, *(loss.title for loss in LOSSES.values())), key=len, reverse=True):
        text = text.replace(name, " ")
    return {line.strip() for line in _DATA.sub(" ", text).splitlines() if re.search(r"[^\W\d_]{2,}", line)}


def test_every_page_is_said_in_the_readers_language(house: House, made_up: None) -> None:
    left, read = {}, 0
    for route in house.routes:
        path = str(route.path_format)
        if "GET" not in (route.methods or ()) or path.startswith(("/api", "/v1", "/static")):
            continue  # the API is English, and so is its description
        for who in ("admin", "reviewer"):
            answer = house.call("GET", route, house.world.people[who], cookie=True, headers={"Accept-Language": "de"})
            if not answer.headers.get("content-type", "").startswith("text/html"):
                continue
            read += 1
            assert '<html lang="de" dir="ltr">' in answer.text, path
            if found := plain_words(answer.text):
                left[path, who] = sorted(found)
    assert read > 40
    assert left == {}


def test_a_word_past_the_catalogues_is_found() -> None:
    assert plain_words("<h1>⟦Round 5 is ⟦done⟧⟧</h1><p title='⟦a⟧'>Person 4 · Hone</p><code>pip</code>") == set()
    assert plain_words("<p>⟦Round 5⟧ failed</p>") == {"failed"}
    assert plain_words("<button aria-label='Close'>×</button>") == {"Close"}
