"""Log-probs of tokens that are there already: what a version would have said to them. In the protocol's words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from app.engine.errors import EngineNonsense


def scoring_body(model: str, ids: Sequence[int]) -> dict[str, Any]:
    """Body of a ``POST /v1/completions`` whose answer holds a log-prob for each of ``ids`` but the first.

    One token is sampled on top, greedily: servers refuse to sample none.
    """
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def read_logprobs(data: Mapping[str, Any], ids: Sequence[int], start: int) -> list[float]:
    """Log-probs (nats, at temperature 1) of ``ids[start:]``, each given all before it.

    Raises:
        EngineNonsense: they are missing, not finite, or of other tokens.
    """
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    found = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if not isinstance(found, list) or len(found) != len(ids):
        count = len(found) if isinstance(found, list) else "no"
        raise EngineNonsense(f"log-probs of {len(ids)} tokens were asked for, {count} came back")
    return [_own(entry, token) for entry, token in zip(found[start:], ids[start:], strict=True)]


def _own(entry: Any, token: int) -> float:
    own = entry.get(str(token)) if isinstance(entry, dict) else None
    value = own.get("logprob") if isinstance(own, dict) else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise EngineNonsense(f"the log-prob of token {token} is {value!r}, which is no number")
    return float(value)
