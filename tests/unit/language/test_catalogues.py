"""The catalogues are whole, true to the sources, and fill the same places with the same markup."""

import re
from collections import Counter

import pytest
from babel.messages.catalog import Catalog, Message

from app.language import LANGUAGES, speaking
from app.language.figures import percent
from app.language.messages import catalogue, extracted, missing
from app.language.negotiation import DEFAULT
from app.language.texts import PLACEHOLDER

TRANSLATED = [tag for tag in LANGUAGES if tag != DEFAULT]
_MARKUP = re.compile(r"</?\w[^<>]*>|&\w+;|[<>]")


@pytest.fixture(scope="module")
def texts() -> Catalog:
    return extracted()


def _files(catalog: Catalog) -> dict[object, set[str]]:
    return {
        message.id if isinstance(message.id, str) else tuple(message.id): {name for name, _line in message.locations}
        for message in catalog
        if message.id
    }


def _wrong(message: Message) -> str | None:
    """What a translation leaves out or adds. A form for one or two things may say the number in words."""
    source = message.id if isinstance(message.id, str) else message.id[-1]
    said = [message.string] if isinstance(message.string, str) else list(message.string or ())
    places, markup = set(PLACEHOLDER.findall(source)), Counter(_MARKUP.findall(source))
    may_lack = {"n"} if message.pluralizable else set()
    for form in said:
        found = set(PLACEHOLDER.findall(form))
        if not found <= places or not places - found <= may_lack:
            return f"{form!r} fills {sorted(found)}, not {sorted(places)}"
        if Counter(_MARKUP.findall(form)) != markup:
            return f"{form!r} has other markup than {source!r}"
        if "%(" in PLACEHOLDER.sub("", form):
            return f"{form!r} has half a place"
    if message.pluralizable and "n" in places and "%(n)s" not in said[-1]:
        return f"{said[-1]!r} is for any number, and says none"
    return None


@pytest.mark.parametrize("tag", TRANSLATED)
def test_every_text_is_translated(tag: str) -> None:
    assert missing(catalogue(tag)) == []


@pytest.mark.parametrize("tag", TRANSLATED)
def test_the_catalogue_is_that_of_the_sources(tag: str, texts: Catalog) -> None:
    there, wanted = _files(catalogue(tag)), _files(texts)
    assert len(wanted) > 1000
    assert there == wanted, "run `make messages`, and translate what it names"


@pytest.mark.parametrize("tag", TRANSLATED)
def test_translations_keep_places_and_markup(tag: str) -> None:
    assert [wrong for message in catalogue(tag) if message.id and (wrong := _wrong(message))] == []


@pytest.mark.parametrize("tag", LANGUAGES)
def test_texts_write_percent_as_figures_do(tag: str, texts: Catalog) -> None:
    forms = [text.id if tag == DEFAULT else text.string for text in (texts if tag == DEFAULT else catalogue(tag))]
    said = [form for either in forms for form in ([either] if isinstance(either, str) else either)]
    with speaking(tag):
        sign = percent(0.52).removeprefix("52")
    shares = [share for form in said for share in re.findall(r"(?:\d|\)s)(\s?%)(?!\()", form)]
    assert len(shares) > 1
    assert set(shares) == {sign}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("Round %(number)s is done.", "Die Runde ist fertig."),
        ("Round %(number)s", "Runde %(nummer)s"),
        ("Round %(number)s", "Runde %(number)"),
        ("See <a href='%(href)s'>it</a>.", "Siehe <a href='%(href)s'>es."),
        ("See it.", "<b>Siehe es.</b>"),
        (("%(n)s vote of %(who)s", "%(n)s votes of %(who)s"), ("eine Stimme", "%(n)s Stimmen von %(who)s")),
        (("%(n)s vote", "%(n)s votes"), ("eine Stimme", "viele Stimmen")),
    ],
)
def test_a_wrong_translation_is_found(source: str | tuple[str, str], said: str | tuple[str, str]) -> None:
    assert _wrong(Message(source, said))


def test_a_text_without_a_whole_translation_is_found() -> None:
    catalog = Catalog(locale="ar")
    catalog.add("Vote", "صوت")
    catalog.add("Round", "")
    catalog.add("Tie", "تعادل", flags=["fuzzy"])
    catalog.add(("%(n)s vote", "%(n)s votes"), ("%(n)s صوت", "", "", "", "", ""))
    assert len(missing(catalog)) == 3
