"""Text grows by whole characters and ends before a stop string."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.models import VOCABULARY, tokenizer
from tests.worker.engine.running import decode
from worker.engine.text import IncrementalText, StoppableText


def pieces(ids: Sequence[int]) -> list[str]:
    text = IncrementalText(decode)
    return [*(text.push(token) for token in ids), text.flush()]


@given(st.text(max_size=60))
def test_deltas_of_a_text_are_the_text(written: str) -> None:
    ids = tokenizer().encode(written, add_special_tokens=False)
    assert "".join(pieces(ids)) == written


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=60))
def test_deltas_of_any_tokens_are_their_decoding(ids: list[int]) -> None:
    """Random bytes and special tokens included: what a random model samples."""
    assert "".join(pieces(ids)) == decode(ids)


def test_no_half_characters() -> None:
    """A four-byte character is four tokens here: nothing shows before the last of them."""
    ids = tokenizer().encode("a🫖é", add_special_tokens=False)
    assert len(ids) == 7
    assert pieces(ids) == ["a", "", "", "", "🫖", "", "é", ""]


def test_an_unfinished_character_shows_at_the_end_only() -> None:
    ids = tokenizer().encode("a🫖", add_special_tokens=False)[:-1]
    assert pieces(ids) == ["a", "", "", "", "\ufffd"][: len(ids) + 1]


def feed(text: str, stop: list[str], *, include_stop: bool = False) -> tuple[list[str], StoppableText, int]:
    """What may be shown after each token, until a stop string ends it."""
    watch = StoppableText(decode, stop, include_stop=include_stop)
    shown = []
    used = 0
    for token in tokenizer().encode(text, add_special_tokens=False):
        used += 1
        stopped = watch.push(token)
        shown.append(watch.take())
        if stopped:
            break
    watch.end()
    shown.append(watch.take())
    return shown, watch, used


def test_stop_string_across_tokens_is_cut_and_never_shown() -> None:
    shown, watch, used = feed("tea xyz boat quiet", ["yz b"])
    assert watch.text == "tea x"
    assert watch.stopped_by == "yz b"
    assert "".join(shown) == "tea x"
    assert used < len(tokenizer().encode("tea xyz boat quiet", add_special_tokens=False))


def test_stop_string_can_be_kept() -> None:
    assert feed("tea xyz boat quiet", ["yz"], include_stop=True)[1].text == "tea xyz"


def test_the_earliest_stop_string_wins() -> None:
    _, watch, _ = feed("one two three", ["three", "two"])
    assert (watch.text, watch.stopped_by) == ("one ", "two")


def test_a_prefix_of_a_stop_string_is_shown_once_it_is_none() -> None:
    shown, watch, _ = feed("ab abc abd", ["abz"])
    assert watch.stopped_by is None
    assert "".join(shown) == "ab abc abd"
    assert shown[-1] == "bd"  # held back to the end: it could still have become "abz"


@pytest.mark.parametrize("stop", [["é"], ["🫖"]])
def test_stop_string_of_several_bytes(stop: list[str]) -> None:
    _, watch, _ = feed("tea é🫖 tea", stop)
    assert watch.text == ("tea " if stop == ["é"] else "tea é")
