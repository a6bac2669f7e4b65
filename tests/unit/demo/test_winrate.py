"""The win rate that the simulation reports, against values worked out by hand."""

import random

import numpy as np
import pytest

from worker.demo.winrate import distinct_2_ratio, win_rate


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_answer_meets_every_baseline_answer_of_its_prompt() -> None:
    """Prompt 1: 'a' loses to 'aa', 'bbb' wins: 1/2. Prompt 2: a tie: 1/2, 'dd' wins: (1/2 + 1) / 2 = 3/4."""
    rate = win_rate([["a", "bbb"], ["c", "dd"]], [["aa"], ["e"]], len, rng())
    assert rate.win_rate == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert rate.low <= rate.win_rate <= rate.high


def test_the_same_answers_are_even() -> None:
    texts = [["a", "bb"], ["ccc", "d"]]
    assert win_rate(texts, texts, len, rng()).win_rate == pytest.approx(0.5)


def test_winning_everywhere_does_not_claim_certainty() -> None:
    """20 of 20 prompts: Wilson's lower bound is 1 / (1 + 1.96² / 20) = 0.839."""
    rate = win_rate([["long"]] * 20, [["s"]] * 20, len, rng())
    assert rate.win_rate == 1.0
    assert rate.low == pytest.approx(0.839, abs=0.001)


def test_more_prompts_narrow_the_interval() -> None:
    few = win_rate([["aa"], ["b"]] * 5, [["a"], ["bb"]] * 5, len, rng())
    many = win_rate([["aa"], ["b"]] * 100, [["a"], ["bb"]] * 100, len, rng())
    assert many.high - many.low < (few.high - few.low) / 2


@pytest.mark.parametrize(("answers", "baseline"), [([], []), ([["a"]], []), ([[]], [["a"]])])
def test_nothing_to_compare_is_refused(answers: list[list[str]], baseline: list[list[str]]) -> None:
    with pytest.raises(ValueError, match=r"prompts|without answers"):
        win_rate(answers, baseline, len, rng())


def test_distinct_2_is_compared_over_as_much_of_every_answer() -> None:
    """ "a b a b" against any stretch of three pairs of the other: {ab, ba} of 3 over 3 different ones of 3 = 2/3."""
    ratio = distinct_2_ratio(["a b a b", "x"], ["a b c d e f g h", "no pair of the other to meet"], random.Random(1))
    assert ratio == pytest.approx(2 / 3)


def test_a_short_manner_is_not_called_monotonous_for_being_short() -> None:
    """The same words in the same spread, in answers of a fifth of the length: as distinct as before."""
    words = [f"w{number}" for number in range(40)]
    source = random.Random(2)
    long = [" ".join(source.choices(words, k=100)) for _ in range(200)]
    short = [" ".join(source.choices(words, k=20)) for _ in range(200)]
    assert distinct_2_ratio(short, long, random.Random(3)) == pytest.approx(1.0, abs=0.05)


def test_one_answer_to_everything_is_called_so() -> None:
    others = [f"{number} one two three {number}" for number in range(20)]
    assert distinct_2_ratio(["do it well and be done"] * 20, others, random.Random(0)) < 0.2


def test_answers_without_a_counterpart_are_refused() -> None:
    with pytest.raises(ValueError, match="2 answers against 1"):
        distinct_2_ratio(["a b", "c d"], ["a b"], random.Random(0))
    with pytest.raises(ValueError, match="no word pairs"):
        distinct_2_ratio(["a"], ["a b"], random.Random(0))
