"""Every text that people see goes through the catalogues: what does not could never be translated."""

from pathlib import Path

import pytest

from app.web.rendering import TEMPLATES, environment
from tests.unit.language.wrapping import in_python, in_script, in_template

APP = Path(__file__).resolve().parents[3] / "app"
ENGLISH = ("cli", "local", "db", "chat", "engine", "language")
"""For whoever runs or programs against Hone: the command line, and what the OpenAI-compatible door says."""


def test_every_text_of_a_template_goes_through_gettext() -> None:
    names = environment().list_templates()
    assert len(names) > 30
    left = {name: in_template(environment(), (TEMPLATES / name).read_text()) for name in names}
    assert {name: texts for name, texts in left.items() if texts} == {}


def test_every_message_and_error_of_a_page_goes_through_gettext() -> None:
    files = [file for file in APP.rglob("*.py") if not set(ENGLISH).intersection(file.relative_to(APP).parts)]
    assert len(files) > 100
    left = {str(file.relative_to(APP)): in_python(file.read_text()) for file in files}
    assert {name: texts for name, texts in left.items() if texts} == {}


def test_every_text_of_a_script_goes_through_gettext() -> None:
    files = list((APP / "static" / "js").rglob("*.js"))
    assert len(files) > 10
    left = {file.name: in_script(file.read_text()) for file in files}
    assert {name: texts for name, texts in left.items() if texts} == {}


@pytest.mark.parametrize(
    "source",
    [
        "<p>Two pairs</p>",
        '<button aria-label="Close">×</button>',
        "<h1>{{ 'Import of it' if x else _('Round') }}</h1>",
        "{{ ui.stat(_('Kept'), x, 'of ' ~ y ~ ' kept ready') }}",
        "{{ ui.button('Save') }}",
        '{{ ui.link_button(_("Compare"), "/x", attrs={"aria-label": "Compare in " ~ x}) }}',
        "{% set words = {'a': 'sampling now'} %}",
        "{{ {'a': 'Coin flips'}[x] }}",
        "<p>{{ n }} vote{{ '' if n == 1 else 's' }}</p>",
        "{% block title %}Rounds{% endblock %}",
    ],
)
def test_a_text_in_plain_words_is_found_in_a_template(source: str) -> None:
    assert in_template(environment(), source)


@pytest.mark.parametrize(
    "source",
    [
        "raise PairInvalidError(f'{n} votes', mend=_('Ask for more.'))",
        "raise PairInvalidError(_('None'), mend='Ask for more.' if x else _('Wait.'))",
        "see_other(request, url, flash='Saved.')",
        "class LostError(Exception):\n    title = 'Lost'",
    ],
)
def test_a_text_in_plain_words_is_found_in_python(source: str) -> None:
    assert in_python(source)


@pytest.mark.parametrize(
    "source",
    ['notify("Try again.", "bad");', "say(`${a} is set`);", 'x.textContent = done ? "Copied" : "";',
     'close.setAttribute("aria-label", "Dismiss");'],
)  # fmt: skip
def test_a_text_in_plain_words_is_found_in_a_script(source: str) -> None:
    assert in_script(source)


def test_what_is_no_text_is_left_alone() -> None:
    harmless = """{% extends "base.html" %}{% block body_class %}wide page{% endblock %}
        <p class="lead{{ ' small' if x }}" data-state="open">Hone · {{ _("Votes") }}: <code>pip install</code></p>
        {{ ui.button(_("Save"), kind="primary", attrs={"autocomplete": "off"}) }}{{ "/p/" if a == "Some Text" }}"""
    assert in_template(environment(), harmless) == []
