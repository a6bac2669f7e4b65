"""Answers that say what wrote them are found; answers that only mention models are not."""

import time

import pytest

from app.comparisons.telling import told_by


@pytest.mark.parametrize(
    "text",
    [
        "As version 3, I would water it less.",
        "I am the new version 4 and know better.",
        "I'm checkpoint 120.",
        "As the latest model, I can say this.",
        "As an improved assistant, I will be brief.",
        "I am ChatGPT, a large language model.",
        "I am a model trained by Alibaba Cloud.",
        "My name is Llama.",
        "In my previous version I was wrong about this.",
        "Since my last training round I know that basil needs light.",
        "As the newer model, I would water it less.",
        "I’m the older version.",
        "I'm version two.",
        "This is checkpoint-120.",
        "As version 3 of this model, I would water it less.",
        "Als Version 3 würde ich weniger gießen.",
        "Als neueres Modell, ich würde weniger gießen.",
        "Als das neueste Sprachmodell weiß ich es.",
        "Ich bin Checkpoint 120.",
        "Ich bin die neue Version zwei.",
        "Ich heiße Llama.",
    ],
)
def test_an_answer_that_names_its_model_is_noticed(text: str) -> None:
    told = told_by(f"Thank you for asking. {text} More follows here.")
    assert told is not None
    assert told.startswith("…") or "Thank you" in told


@pytest.mark.parametrize(
    "text",
    [
        "As a language model I cannot taste basil.",
        "Use version 3 of Python, and my version of the recipe.",
        "Claude Monet painted water lilies; the llama is an animal.",
        "The model version 2 of the car was better.",
        "In the latest version of the app this was mended.",
        "As the newer model has more memory, buy that telephone.",
        "As the newer model of the two, the Golf has it.",
        "This is version two of your letter.",
        "I want to be a better version of myself, and I'm a better version of myself today.",
        "I am version-controlled, as one says of versions.",
        "Python 3 ist schneller als Version 2, finde ich.",
        "Besser als Version 2 finde ich die neue Version.",
        "Als die neue Version erschien, war ich verreist.",
        "Als Sprachmodell kann ich Basilikum nicht schmecken.",
        "Ich bin der Meinung, dass das neuere Modell des Golfs besser ist.",
    ],
)
def test_talk_of_versions_and_models_alone_is_not(text: str) -> None:
    assert told_by(text) is None


def test_the_passage_is_short_whatever_the_answer() -> None:
    told = told_by("water " * 4000 + "As version 3, I " + "light " * 4000)
    assert told is not None
    assert len(told) <= 240
    assert "As version 3" in told


@pytest.mark.parametrize("begun", ["as version", "as the newer model", "als Version 3", "I am the new", "my previous"])
@pytest.mark.parametrize("gap", [" ", "\n", " \t"])
def test_the_time_grows_with_the_text_and_not_with_its_square(begun: str, gap: str) -> None:
    """Somebody else's text, read by the web server: 20,000 spaces kept all of it waiting for 20 s."""
    began = time.thread_time()
    assert told_by(begun + gap * 10_000 + "x") is None
    assert time.thread_time() - began < 0.5


def test_words_may_stand_as_far_apart_as_they_like() -> None:
    assert told_by("  Well,\n\nas \t version \n 3,   I  would say so.  ") == "Well, as version 3, I would say so."
