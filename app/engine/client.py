"""Talking to the sampling engine: Hone's own, vLLM, or SGLang. Synchronous, typed, without torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.engine.errors import EngineNonsense, EngineRefused, EngineUnavailable
from app.engine.protocol import Choice, Sampled, raise_error, read_json, read_sampled
from app.engine.requests import Messages, Sampling, chat_body, connection, json_content, mapped_errors
from app.engine.scoring import read_logprobs, scoring_body
from app.engine.streaming import Piece, StreamReader

__all__ = [
    "ChatStream", "Choice", "EngineClient", "EngineNonsense", "EngineRefused", "EngineUnavailable", "Messages",
    "Piece", "Sampled", "Sampling",
]  # fmt: skip

_HEALTH_SECONDS = 2.0


class ChatStream:
    """Completions as they are sampled: iterate once; afterwards ``sampled`` has the whole answer."""

    def __init__(self, response: httpx.Response, n: int) -> None:
        self._response = response
        self._reader = StreamReader(n)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces of all completions, in the order they came.

        Raises:
            EngineUnavailable, EngineRefused, EngineNonsense: it broke off, or the engine says why it cannot go on.
        """
        with mapped_errors(self._response.request):
            for data in self._response.iter_bytes():
                yield from self._reader.feed(data)
                if self._reader.done:
                    break
        yield from self._reader.end()

    @property
    def prompt_ids(self) -> list[int]:
        """What the model saw; known from the first piece on, empty where the server does not say."""
        return self._reader.prompt_ids

    def sampled(self) -> Sampled:
        """The whole answer, once every piece was read."""
        return self._reader.sampled()


class EngineClient:
    """One engine. Thread-safe; keep one for a process and ``close`` it, or use it in a ``with``.

    Every method raises ``EngineUnavailable`` (try again later), ``EngineRefused`` (do not) or ``EngineNonsense``.
    """

    def __init__(
        self,
        base_url: str,
        secret: str = "",
        timeout_seconds: float = 120.0,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """``timeout_seconds`` is the longest silence tolerated; an answer comes whole, so it covers all sampling."""
        self._http = httpx.Client(**connection(base_url, secret, timeout_seconds), transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def chat(self, model: str, messages: Messages, sampling: Sampling, n: int, seed: int) -> Sampled:
        """``n`` completions of a conversation by the version ``model``. The same seed gives the same completions."""
        body = chat_body(model, messages, sampling, n, seed)
        sampled = read_sampled(self._json("POST", "/v1/chat/completions", body), n)
        if sampled.prompt_ids:
            return sampled
        return Sampled(self._token_ids(model, messages), sampled.choices)

    @contextmanager
    def stream(self, model: str, messages: Messages, sampling: Sampling, n: int, seed: int) -> Iterator[ChatStream]:
        """What ``chat`` gives, piece by piece; leaving the block early has the engine stop sampling.

        An error before the first piece (unknown model, too long a conversation, a full queue) is raised on entering.
        """
        request = self._http.build_request(
            "POST",
            "/v1/chat/completions",
            **json_content(chat_body(model, messages, sampling, n, seed) | {"stream": True}),
        )
        with mapped_errors(request):
            response = self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with mapped_errors(request):
                    response.read()
                raise_error(response)
            yield ChatStream(response, n)
        finally:
            response.close()

    def logprobs(self, model: str, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> list[float]:
        """Log-prob of each completion token under the version ``model`` (nats, temperature 1, nothing filtered)."""
        ids = [*prompt_ids, *completion_ids]
        return read_logprobs(self._json("POST", "/v1/completions", scoring_body(model, ids)), ids, len(prompt_ids))

    def health(self) -> bool:
        """Whether it answers; False rather than an error when it does not."""
        try:
            return self._send("GET", "/health", timeout=_HEALTH_SECONDS).is_success
        except EngineUnavailable:
            return False

    def models(self) -> list[str]:
        """Names of the versions it can be asked for."""
        data = self._json("GET", "/v1/models").get("data")
        if not isinstance(data, list):
            raise EngineNonsense("GET /v1/models: no list of models")
        names = [entry.get("id") for entry in data if isinstance(entry, dict)]
        return [name for name in names if isinstance(name, str)]

    def load(self, version_id: str, path: Path | str | None = None) -> None:
        """Load a version before it is first asked for, from ``path`` if the engine does not find it by its name."""
        body = {"lora_name": version_id} | ({} if path is None else {"lora_path": str(path)})
        response = self._send("POST", "/v1/load_lora_adapter", body)
        if response.status_code == httpx.codes.BAD_REQUEST and "already been loaded" in response.text:
            return  # vLLM's way to say that there is nothing to do
        if not response.is_success:
            raise_error(response)

    def unload(self, version_id: str) -> None:
        """Drop a version from the engine's memory once its running requests are done; fine if it is not there."""
        response = self._send("POST", "/v1/unload_lora_adapter", {"lora_name": version_id})
        missing = response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST)
        if missing and ("not loaded" in response.text or "cannot be found" in response.text):
            return
        if not response.is_success:
            raise_error(response)

    def sleep(self) -> None:
        """Have it finish what runs and free its memory; it refuses requests until ``wake``."""
        self._done("POST", "/sleep")

    def wake(self) -> None:
        """Have it take requests again."""
        self._done("POST", "/wake_up")

    def is_sleeping(self) -> bool:
        """Whether it sleeps."""
        return self._json("GET", "/is_sleeping").get("is_sleeping") is True

    def tokenize(self, model: str, messages: Messages) -> tuple[int, int]:
        """Tokens of the conversation as the model would see it, and of the model's whole context."""
        data = self._tokenize(model, messages)
        count, context = data.get("count"), data.get("max_model_len")
        if not isinstance(count, int) or not isinstance(context, int):
            raise EngineNonsense(f"POST /tokenize: count {count!r} and max_model_len {context!r} are no numbers")
        return count, context

    def _token_ids(self, model: str, messages: Messages) -> list[int]:
        ids = self._tokenize(model, messages).get("tokens")
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise EngineNonsense("POST /tokenize: no list of token ids")
        return ids

    def _tokenize(self, model: str, messages: Messages) -> dict[str, Any]:
        body = {"model": model, "messages": [dict(m) for m in messages], "add_generation_prompt": True}
        return self._json("POST", "/tokenize", body)

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return read_json(self._send(method, path, body))

    def _done(self, method: str, path: str) -> None:
        response = self._send(method, path)
        if not response.is_success:
            raise_error(response)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> httpx.Response:
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout)
        request = self._http.build_request(method, path, **json_content(body), timeout=limit)
        with mapped_errors(request):
            return self._http.send(request)
