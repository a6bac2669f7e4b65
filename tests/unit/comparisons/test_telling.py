"""Answers that say what wrote them are found; answers that only mention models are not."""

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
    ],
)
def test_talk_of_versions_and_models_alone_is_not(text: str) -> None:
    assert told_by(text) is None


def test_the_passage_is_short_whatever_the_answer() -> None:
    told = told_by("water " * 4000 + "As version 3, I " + "light " * 4000)
    assert told is not None
    assert len(told) <= 240
    assert "As version 3" in told
