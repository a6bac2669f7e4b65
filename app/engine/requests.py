"""What is asked of an engine, and what its silence means: shared by the clients with and without asyncio."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app import logs
from app.engine.errors import EngineNonsense, EngineUnavailable

_CONNECT_SECONDS = 5.0

Messages = Sequence[Mapping[str, str]]
"""A conversation: ``role`` and ``content`` of each turn."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 filter nothing; temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    min_p: float = 0.0

    def fields(self) -> dict[str, Any]:
        """As the protocol names them; what filters nothing is left out, since servers spell "off" differently."""
        fields: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.top_p < 1:
            fields["top_p"] = self.top_p
        if self.top_k > 0:
            fields["top_k"] = self.top_k
        if self.min_p > 0:
            fields["min_p"] = self.min_p
        if self.stop:
            fields["stop"] = list(self.stop)
        return fields


def chat_body(model: str, messages: Messages, sampling: Sampling, n: int, seed: int) -> dict[str, Any]:
    """A chat completion that can be trained on: with the ids that were sampled."""
    return {
        "model": model,
        "messages": [dict(message) for message in messages],
        "n": n,
        "seed": seed,
        "return_token_ids": True,
        **sampling.fields(),
    }


def connection(base_url: str, secret: str, timeout_seconds: float) -> dict[str, Any]:
    """Settings of an httpx client for one engine."""
    return {
        "base_url": base_url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {secret}"} if secret else {},
        "timeout": httpx.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds)),
        "limits": httpx.Limits(max_connections=None),  # the engine bounds its queue itself, and says so with 429
        "trust_env": False,
    }


REQUEST_ID_HEADER = "X-Hone-Request-ID"
"""Not ``X-Request-ID``: vLLM takes that for the name of this very request, and many may be asked for one of ours."""


def json_content(body: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments that send ``body``, and for whose sake."""
    if body is None:
        return {}
    headers = {"Content-Type": "application/json"}
    if (request_id := logs.request_id()) is not None:
        headers[REQUEST_ID_HEADER] = request_id
    return {"content": json.dumps(body).encode(), "headers": headers}


@contextmanager
def mapped_errors(request: httpx.Request) -> Iterator[None]:
    """Turn what goes wrong on the way into the product's own errors.

    Raises:
        EngineUnavailable: nobody there, silent for too long, or gone in mid-sentence.
        EngineNonsense: bytes that are not what their headers say.
    """
    try:
        yield
    except httpx.TransportError as error:
        said = str(error) or type(error).__name__
        raise EngineUnavailable(f"{request.method} {request.url}: {said}") from error
    except (httpx.DecodingError, httpx.TooManyRedirects) as error:
        raise EngineNonsense(f"{request.method} {request.url.path}: {error}") from error
