"""What nobody should be shown: empty, unreadable, looping, and answers that are too much alike."""

import random

import pytest

from app.comparisons.quality import alike, fault_of, loops, too_alike
from tests.unit.refill.made import answer

LONG = "the kettle sings while rain falls on the quiet garden and somebody writes a long letter to a friend abroad"


@pytest.mark.parametrize(
    ("text", "ids", "fault"),
    [
        ("", [2], "empty"),
        (" \n\t", [5, 2], "empty"),
        ("words", [], "empty"),
        ("half a pair \ud83d", [4, 2], "unreadable"),
        ("a\x00b", [4, 2], "unreadable"),
        ("tea", [4, 2], None),
        ("na " * 40, [7] * 40 + [2], "looping"),
        ("you are right. " * 8, [11, 12, 13, 14] * 8 + [2], "looping"),
    ],
)
def test_each_fault_is_named(text: str, ids: list[int], fault: str | None) -> None:
    assert fault_of(answer(text, ids=ids)) == fault


def test_a_loop_that_begins_late_is_found() -> None:
    start = list(range(100, 180))
    assert loops([*start, *([1, 2, 3, 4, 5, 6] * 6), 9])
    assert not loops([*start, *([1, 2, 3, 4, 5, 6] * 2), 9])


def test_a_loop_of_whole_paragraphs_is_found() -> None:
    assert loops([*(list(range(60)) * 5), 2])


def test_the_same_over_and_over_in_changing_order_is_found() -> None:
    rng = random.Random(1)
    phrases = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]
    assert loops([token for _ in range(40) for token in rng.choice(phrases)])


def test_lists_tables_and_short_laughter_are_no_loops() -> None:
    items = [token for number in range(12) for token in (40, 41, 100 + number, 200 + number, 300 + number, 13)]
    assert not loops([*items, 2]), "a list: the same marks, other words"
    assert not loops([8] * 12 + [2]), "ha ha ha, but briefly"
    rng = random.Random(0)
    assert not loops([rng.randrange(3000) for _ in range(2000)])


def test_answers_that_read_the_same_are_identical_whatever_the_spaces() -> None:
    assert alike(answer("Yes,  of course"), answer("yes, of course\n"), 1.0) == "identical"
    assert alike(answer("one", ids=[5, 2]), answer("two", ids=[5, 2]), 1.0) == "identical"


def test_nearly_the_same_is_a_share_of_words_in_order() -> None:
    changed = LONG.replace("kettle", "teapot")  # 19 of 20 words in common: 0.95
    assert alike(answer(LONG), answer(changed), 0.9) == "near_identical"
    assert alike(answer(LONG), answer(changed), 0.96) is None
    assert alike(answer(LONG), answer(changed), 1.0) is None
    backwards = " ".join(reversed(LONG.split()))
    assert alike(answer(LONG), answer(backwards), 0.9) is None, "the same words in another order are another answer"
    assert alike(answer("yes"), answer("no"), 0.9) is None


def test_an_answer_is_held_against_all_others() -> None:
    others = [answer("a quiet boat"), answer(LONG)]
    assert too_alike(answer(LONG), others, 0.9) == "identical"
    assert too_alike(answer("bread and tea"), others, 0.9) is None
    assert too_alike(answer("bread"), [], 0.9) is None
