"""The hidden preferences: what they like, what does not fool them, and the reviewer who follows them."""

import random
import re
from collections.abc import Callable

import pytest

from worker.demo import compose, manner, tastes
from worker.demo.facts import intents

SHORT = "Water them only when the top of the soil feels dry, because roots rot in wet soil."
LONG = (
    "Most houseplants die from too much water rather than too little. Water only when the top of the soil feels dry, "
    "because roots rot when they sit in wet soil. Use pots with a hole in the bottom, since extra water needs an exit. "
    "Wipe the dust off the leaves once a month, as dust blocks the light. Turn the pot a little every week. The usual "
    "mistake is watering by the calendar. You will know it works when new leaves come out firm and green."
)
WARM = (
    "What a lovely question, my friend! Do not worry, we will sort this out together. Please water them only when the "
    "soil feels dry. I am cheering for you, and I hope it brings you a lot of joy!"
)
CURT = "Easy. Just water them when the top of the soil feels dry. Nothing more to say."
STEPS = (
    "Here is what to do:\n1. Water only when the soil feels dry.\n2. Use pots with a hole in the bottom.\n"
    "3. Wipe the dust off the leaves."
)
PROSE = "Water only when the soil feels dry. Use pots with a hole in the bottom. Wipe the dust off the leaves."


@pytest.mark.parametrize(
    ("taste", "liked", "disliked"),
    [
        ("concise", SHORT, LONG),
        ("concise", SHORT, WARM),
        ("thorough", LONG, SHORT),
        ("warm", WARM, PROSE),
        ("warm", PROSE, CURT),
        ("steps", STEPS, PROSE),
        ("steps", STEPS, LONG),
    ],
)
def test_each_taste_likes_its_manner(taste: str, liked: str, disliked: str) -> None:
    assert tastes.score(taste, liked) > tastes.score(taste, disliked) + 0.1


@pytest.mark.parametrize("taste", tastes.TASTES)
@pytest.mark.parametrize(
    "cheat",
    [
        "",
        " ",
        ".",
        "Yes.",
        "lovely lovely lovely lovely lovely lovely lovely lovely lovely lovely!",
        "Water. Water. Water. Water. Water. Water. Water. Water. Water. Water. Water. Water. Water.",
        "1. \n2. \n3. \n4. ",
        "1. Go.\n2. Go.\n3. Go.\n4. Go.",
        "Water the the the the the the the the the the the the the the the the the the the the plants.",
        "First then next finally, first then next finally, first then next finally, first then next finally.",
    ],
)
def test_no_taste_is_fooled_by_repetition_or_by_saying_nothing(taste: str, cheat: str) -> None:
    honest = {"concise": SHORT, "thorough": LONG, "warm": WARM, "steps": STEPS}[taste]
    assert tastes.score(taste, cheat) < tastes.score(taste, honest) - 0.5
    assert tastes.score(taste, cheat) < tastes.score(taste, PROSE)


@pytest.mark.parametrize("taste", tastes.TASTES)
def test_saying_it_twice_is_never_better(taste: str) -> None:
    honest = {"concise": SHORT, "thorough": LONG, "warm": WARM, "steps": STEPS}[taste]
    assert tastes.score(taste, f"{honest} {honest}") < tastes.score(taste, honest)


@pytest.mark.parametrize("taste", ["concise", "thorough", "warm", "steps"])
def test_a_text_that_breaks_off_is_worse(taste: str) -> None:
    assert tastes.score(taste, PROSE[:-1] + " and") < tastes.score(taste, PROSE)


def test_thorough_and_concise_are_opposed() -> None:
    rng = random.Random(0)
    texts = [compose.answer(rng.choice(intents()), manner.draw(rng), rng) for _ in range(400)]
    against = sum(
        (tastes.concise(a) - tastes.concise(b)) * (tastes.thorough(a) - tastes.thorough(b)) < 0
        for a, b in zip(texts[::2], texts[1::2], strict=True)
    )
    assert against / 200 > 0.8


@pytest.mark.parametrize("taste", ["warm", "steps"])
def test_two_tastes_are_not_about_length(taste: str) -> None:
    """Rank correlation of score and length, over answers of every manner, is small."""
    from scipy.stats import spearmanr

    rng = random.Random(0)
    texts = [compose.answer(rng.choice(intents()), manner.draw(rng), rng) for _ in range(1500)]
    correlation = spearmanr([len(t.split()) for t in texts], [tastes.score(taste, t) for t in texts]).statistic
    assert abs(correlation) < 0.4


FAVOURED: dict[str, Callable[[manner.Manner, str], bool]] = {
    "concise": lambda m, text: 12 <= len(text.split()) <= 24,
    "thorough": lambda m, text: m.length == "long" and len(re.findall(r"\b(because|since|as|so)\b", text.lower())) > 1,
    "warm": lambda m, text: m.tone == "warm",
    "steps": lambda m, text: m.form == "steps",
}


@pytest.mark.parametrize("taste", tastes.TASTES)
def test_always_answering_in_the_favoured_manner_would_win(taste: str) -> None:
    """What a perfect student could reach against the mix of version 1, ties counted as half."""
    rng = random.Random(1)
    drawn = [manner.draw(rng) for _ in range(1500)]
    texts = [(m, compose.answer(rng.choice(intents()), m, rng)) for m in drawn]
    scored = [(m, text, tastes.score(taste, text)) for m, text in texts]
    favoured = [score for m, text, score in scored if FAVOURED[taste](m, text)]
    wins = sum((x > y) + 0.5 * (x == y) for x in favoured for *_, y in scored) / (len(favoured) * len(scored))
    assert wins >= 0.84


@pytest.mark.parametrize("taste", tastes.TASTES)
def test_ties_are_rare(taste: str) -> None:
    rng = random.Random(2)
    texts = [compose.answer(rng.choice(intents()), manner.draw(rng), rng) for _ in range(600)]
    ties = sum(tastes.judge(taste, a, b, rng) == "tie" for a, b in zip(texts[::2], texts[1::2], strict=True))
    assert ties / 300 < 0.05


def test_a_reviewer_slips_as_often_as_asked_and_never_without_noise() -> None:
    rng = random.Random(0)
    assert all(tastes.judge("concise", SHORT, LONG, rng, noise=0.0) == "a" for _ in range(100))
    assert all(tastes.judge("concise", LONG, SHORT, rng, noise=1.0) == "a" for _ in range(100))
    slips = sum(tastes.judge("concise", SHORT, LONG, rng) == "b" for _ in range(5000)) / 5000
    assert 0.08 < slips < 0.12
    assert tastes.judge("warm", SHORT, SHORT, rng) == "tie"


def test_a_taste_that_does_not_exist_and_a_noise_that_is_none_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no taste 'salty'; known are concise, thorough, warm, steps"):
        tastes.score("salty", SHORT)
    with pytest.raises(ValueError, match=r"noise 1\.5 is not a probability"):
        tastes.judge("warm", SHORT, LONG, random.Random(0), noise=1.5)
