"""What is stored of a completion beside its text: how it ended, how it was drawn, and whether it can be stored."""

from collections.abc import Collection
from typing import Any

from app.engine.protocol import Choice
from app.engine.requests import Sampling


def end_of(choice: Choice, ends: Collection[int]) -> str:
    """How it ended: 'eos' if and only if its last sampled id is an end token, whatever the server says."""
    if choice.token_ids and choice.token_ids[-1] in ends:
        return "eos"
    return "length" if choice.finish_reason == "length" else "stop"


def is_storable(choice: Choice) -> bool:
    """Whether there is something to read, and Postgres can hold it."""
    try:
        choice.text.encode()
    except UnicodeEncodeError:
        return False
    return bool(choice.text.strip()) and "\x00" not in choice.text and bool(choice.token_ids)


def drawn(sampling: Sampling, *, seed: int, n: int, index: int) -> dict[str, Any]:
    """The settings it was drawn with, as ``completions.sampling`` keeps them."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "seed": seed,
        "n": n,
        "index": index,
    }
