"""Log-probs of tokens that are there: what is asked, and what an answer must hold to be believed."""

from typing import Any

import pytest

from app.engine.errors import EngineNonsense
from app.engine.scoring import read_logprobs, scoring_body

IDS = [1, 5, 7, 2]


def answer(*entries: Any) -> dict[str, Any]:
    return {"choices": [{"prompt_logprobs": list(entries)}]}


def own(token: int, value: Any) -> dict[str, Any]:
    """As vLLM says it: the token's own log-prob, with a likelier one beside it."""
    return {"9": {"logprob": -0.1, "rank": 1}, str(token): {"logprob": value, "rank": 3}}


def test_the_request_samples_one_token_and_wants_the_prompts_own_log_probs() -> None:
    body = scoring_body("version", IDS)
    assert (body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == (IDS, 0, 1)


def test_the_completions_tokens_are_read_and_the_prompts_are_not() -> None:
    data = answer(None, own(5, -0.5), own(7, -1.5), own(2, -2))
    assert read_logprobs(data, IDS, 2) == [-1.5, -2.0]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"choices": [{"text": "x"}]}, "4 tokens were asked for, no came back"),
        ({}, "no came back"),
        (answer(None, own(5, -1)), "2 came back"),
        (answer(None, own(5, -1), own(8, -1), own(2, -1)), "token 7 is None"),
        (answer(None, own(5, -1), own(7, float("-inf")), own(2, -1)), "token 7 is -inf"),
        (answer(None, own(5, -1), own(7, "a lot"), own(2, -1)), "token 7 is 'a lot'"),
    ],
)
def test_what_is_missing_or_no_number_is_nonsense(data: dict[str, Any], told: str) -> None:
    with pytest.raises(EngineNonsense, match=told):
        read_logprobs(data, IDS, 2)
