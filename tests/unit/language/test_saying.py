"""Texts in the reader's language: the browser's wish, messages, figures, and what the database keeps in English."""

from datetime import UTC, datetime

import pytest

from app.language import _, _n, accepted, listed, say, sentence, speaking
from app.language.figures import Figure, Percent, decimal, moment, percent, signed
from app.language.recall import recalled
from app.web.words import said

GATE = (
    "the gate did not promote version 3: its distance from the reference could not be measured; nobody has compared it "
    "with the current version"
)
GATE_IN_GERMAN = (
    "nach der Hürde wurde Version 3 nicht übernommen: sein Abstand zur Referenz ließ sich nicht messen; niemand hat es "
    "mit der aktuellen Version verglichen"
)


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, ar;q=0.7, en;q=0.3", "ar"),
        ("en;q=0.5, de;q=0.6", "de"),
        ("de;q=0, en", "en"),
        ("xx, ;;;q=,=", "en"),
    ],
)
def test_the_best_of_the_languages_that_a_browser_asks_for(header: str | None, tag: str) -> None:
    assert accepted(header) == tag


def test_a_text_is_english_for_programs_and_in_the_readers_language_on_a_page() -> None:
    text = _("Round %(number)s is %(state)s.", number=3, state=_("training"))
    assert text == "Round 3 is training."
    assert say(text) == "Round 3 is training."
    with speaking("de"):
        assert say(text) == "Runde 3: Training."
        assert f"{text}" == "Round 3 is training."


def test_arabic_has_more_than_two_forms() -> None:
    with speaking("ar"):
        told = [say(_n("%(n)s vote", "%(n)s votes", count)) for count in (1, 2, 3, 11, 100)]
    assert told == ["صوت واحد", "صوتان", "3 أصوات", "11 صوتًا", "100 صوت"]


def test_lists_and_sentences_are_said_part_by_part() -> None:
    both = listed((sentence(_("cannot be empty")), _("Saved.")), " ")
    assert both == "Cannot be empty. Saved."
    with speaking("ar"):
        assert say(listed((_("skipped"), _("flagged")))) == "متخطّاة؛ مُبلَّغ عنها"
        assert str(say(both)).endswith(" تم الحفظ.")


MINUS, LRM = "\N{MINUS SIGN}", "\N{LEFT-TO-RIGHT MARK}"


def test_figures_are_written_as_the_language_does() -> None:
    when = datetime(2026, 11, 3, 4, 5, tzinfo=UTC)
    assert (Figure(1234), Percent(0.52), decimal(-1.25, 2), signed(0.5, 1)) == (
        "1,234",
        "52%",
        "\N{MINUS SIGN}1.25",
        "+0.5",
    )
    assert (percent(0.523), percent(0.523, 1)) == ("52%", "52.3%")
    with speaking("de"):
        assert (percent(0.52), say(Percent(0.52))) == ("52\N{NO-BREAK SPACE}%", "52\N{NO-BREAK SPACE}%")
        assert say(Figure(1234)) == "1.234"
        assert (say(Figure(0.456, 2)), percent(0.523, 1), signed(5.4, 1)) == ("0,46", "52,3\N{NO-BREAK SPACE}%", "+5,4")
        assert moment(when) == "3. Nov. 2026, 04:05 UTC"
    with speaking("ar"):
        assert (percent(0.52), say(Percent(0.52))) == ("52%", "52%")
        assert moment(when) == "3 نوفمبر 2026, 04:05 UTC"
        assert (signed(5.4, 1), decimal(-0.5, 1)) == (
            "\N{LEFT-TO-RIGHT MARK}+5.4",
            "\N{LEFT-TO-RIGHT MARK}\N{MINUS SIGN}0.5",
        )


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("version 3 was promoted", "Version 3 wurde übernommen"),
        ("2 new votes so far, a round needs 5.", "2 neue Stimmen bisher, eine Runde braucht 5."),
        (
            "message 2 is empty; write something or remove it",
            "Nachricht 2 ist leer; schreiben Sie etwas, oder entfernen Sie sie",
        ),
        (GATE, GATE_IN_GERMAN),
        ("CUDA out of memory.", None),
        ("", None),
    ],
)
def test_what_was_written_down_in_english_is_said_again(kept: str, told: str | None) -> None:
    assert recalled(kept, "de") == told
    assert recalled(kept, "en") is None


def test_what_no_message_says_is_marked_as_english() -> None:
    assert said("CUDA <out> of memory.") == "CUDA <out> of memory."
    with speaking("ar"):
        assert said("CUDA <out> of memory.") == '<bdi lang="en">CUDA &lt;out&gt; of memory.</bdi>'
        assert said(None) is None
    with speaking("de"):
        assert said("version 3 was promoted", capital=True) == "Version 3 wurde übernommen"
