"""The win rate that the simulation reports, against values worked out by hand."""

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


def test_distinct_2_is_compared_over_equal_amounts_of_text() -> None:
    """Three pairs against three: {ab, ba} of 3 over {ab, bc, cd} of 3 = 2/3; the baseline's further pairs are cut."""
    assert distinct_2_ratio(["a b a b"], ["a b c d", "e f"]) == pytest.approx(2 / 3)
