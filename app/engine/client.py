"""Talking to the sampling engine: Hone's own, vLLM, or SGLang. Synchronous, typed, without torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.engine.draining import adapters_at_work
from app.engine.errors import EngineNonsense, EngineRefused, EngineUnavailable
from app.engine.places import Card, EngineKind, Places, Route, read_cards
from app.engine.protocol import Choice, Sampled, raise_error, read_json, read_sampled
from app.engine.requests import Messages, Sampling, chat_body, connection, json_content, mapped_errors
from app.engine.scoring import read_logprobs, scoring_body
from app.engine.streaming import Piece, StreamReader, WholeAnswer

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
    """One engine, or several that serve different models. Thread-safe; keep one for a process and ``close`` it, or use
    it in a ``with``.

    Every method raises ``EngineUnavailable`` (try again later), ``EngineRefused`` (do not) or ``EngineNonsense``.
    """

    def __init__(
        self,
        base_url: str,
        secret: str = "",
        timeout_seconds: float = 120.0,
        *,
        kind: EngineKind = "vllm",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """``base_url`` may name several, with commas between them.

        ``timeout_seconds`` is the longest silence tolerated; an answer comes whole, so it covers all sampling.
        """
        self._places = Places(base_url, kind)
        self._https = [
            httpx.Client(**connection(url, secret, timeout_seconds), transport=transport) for url in self._places.urls
        ]

    def close(self) -> None:
        """Close the connections."""
        for http in self._https:
            http.close()

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
        with self._route(model) as route:
            return self._whole(route, messages, sampling, n, seed)

    @contextmanager
    def stream(
        self, model: str, messages: Messages, sampling: Sampling, n: int, seed: int
    ) -> Iterator[ChatStream | WholeAnswer]:
        """What ``chat`` gives, piece by piece; leaving the block early has the engine stop sampling.

        An error before the first piece (unknown model, too long a conversation, a full queue) is raised on entering.
        SGLang streams no token ids: its answer comes whole, as one piece for each completion.
        """
        whole = self._places.kind == "sglang"
        with self._route(model) as route:
            body = chat_body(route.name, messages, sampling, n, seed)
            response = self._opened(route, body if whole else body | {"stream": True}, whole=whole)
        try:
            yield WholeAnswer(read_sampled(read_json(response), n, "sglang")) if whole else ChatStream(response, n)
        finally:
            response.close()

    def logprobs(self, model: str, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> list[float]:
        """Log-prob of each completion token under the version ``model`` (nats, temperature 1, nothing filtered)."""
        ids = [*prompt_ids, *completion_ids]
        with self._route(model) as route:
            answer = self._json("POST", "/v1/completions", scoring_body(route.name, ids), place=route.place)
        return read_logprobs(answer, ids, len(prompt_ids))

    def health(self) -> bool:
        """Whether any of them answers; False rather than an error when none does."""
        return any(self._healthy(place) for place in range(len(self._https)))

    def models(self) -> list[str]:
        """Names of the versions that can be asked for."""
        return [card.name for place in range(len(self._https)) for card in self._cards(place)]

    def serving(self) -> dict[str, tuple[str, Card]]:
        """For each version, by its name, the address that serves it and what is said of it there.

        Raises:
            EngineUnavailable: not all of them answer.
        """
        found: dict[str, tuple[str, Card]] = {}
        for url, cards in zip(self._places.urls, self._look(), strict=True):
            if isinstance(cards, EngineUnavailable):
                raise cards
            for card in cards:
                found.setdefault(card.name, (url, card))
        return found

    def load(self, version_id: str, path: Path | str | None = None, *, base: str | None = None) -> None:
        """Load a version before it is first asked for, from ``path`` if the engine does not find it by its name.

        ``base`` is the name of the full version under an adapter: with several addresses it goes where that is served.
        """
        place = 0
        if self._places.must_look:
            listings = self._look()
            if self._places.known(version_id) is not None:
                return
            place = self._places.home(base, listings)
        body = {"lora_name": version_id} | ({} if path is None else {"lora_path": str(path)})
        response = self._send("POST", self._adapters("load"), body, place=place)
        self._places.forget()
        if response.is_success:
            return
        if response.status_code == httpx.codes.BAD_REQUEST and (
            "already been loaded" in response.text or self._now_serves(version_id)
        ):
            return  # somebody else was quicker; vLLM's and SGLang's way to say that there is nothing to do
        raise_error(response)

    def unload(self, version_id: str) -> None:
        """Drop a version from the engine's memory once its running requests are done; fine if it is not there."""
        try:
            with self._route(version_id) as route:
                place = route.place
        except EngineRefused:
            return
        response = self._send("POST", self._adapters("unload"), {"lora_name": version_id}, place=place)
        self._places.forget()
        missing = response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST)
        if missing and any(words in response.text for words in ("not loaded", "cannot be found", "does not exist")):
            return
        if not response.is_success:
            raise_error(response)

    def busy(self, version_id: str) -> bool | None:
        """Whether requests of an adapter run or wait; None where the server does not tell."""
        with self._route(version_id) as route:
            response = self._send("GET", "/metrics", place=route.place)
        working = adapters_at_work(response.text) if response.is_success else None
        return None if working is None else version_id in working

    def sleep(self) -> None:
        """Have it finish what runs and free its memory; it refuses requests until ``wake``."""
        self._each("/sleep")

    def wake(self) -> None:
        """Have it take requests again."""
        self._each("/wake_up")

    def is_sleeping(self) -> bool:
        """Whether it, or one of them, sleeps."""
        places = range(len(self._https))
        return any(self._json("GET", "/is_sleeping", place=place).get("is_sleeping") is True for place in places)

    def tokenize(self, model: str, messages: Messages) -> tuple[int, int]:
        """Tokens of the conversation as the model would see it, and of the model's whole context."""
        with self._route(model) as route:
            data = self._tokenize(route, messages)
        count, context = data.get("count"), data.get("max_model_len")
        if not isinstance(count, int) or not isinstance(context, int):
            raise EngineNonsense(f"POST /tokenize: count {count!r} and max_model_len {context!r} are no numbers")
        return count, context

    # Who serves what

    @contextmanager
    def _route(self, model: str) -> Iterator[Route]:
        """Where to ask for ``model``; whoever then does not know it after all is asked again next time."""
        route = self._places.known(model)
        if route is None:
            listings = self._look()
            route = self._places.find(model, listings)
        try:
            yield route
        except EngineRefused as refusal:
            if refusal.code == "model_not_found":
                self._places.forget()
            raise

    def _look(self) -> list[list[Card] | EngineUnavailable]:
        listings: list[list[Card] | EngineUnavailable] = []
        for place in range(len(self._https)):
            try:
                listings.append(self._cards(place))
            except EngineUnavailable as error:
                listings.append(error)
        self._places.learn(listings)
        return listings

    def _cards(self, place: int) -> list[Card]:
        return read_cards(self._json("GET", "/v1/models", place=place))

    def _now_serves(self, model: str) -> bool:
        return any(card.name == model for cards in self._look() if isinstance(cards, list) for card in cards)

    def _adapters(self, act: str) -> str:
        return f"/{act}_lora_adapter" if self._places.kind == "sglang" else f"/v1/{act}_lora_adapter"

    # One request

    def _whole(self, route: Route, messages: Messages, sampling: Sampling, n: int, seed: int) -> Sampled:
        body = chat_body(route.name, messages, sampling, n, seed)
        answer = self._json("POST", "/v1/chat/completions", body, place=route.place)
        sampled = read_sampled(answer, n, self._places.kind)
        if sampled.prompt_ids:
            return sampled
        return Sampled(self._token_ids(route, messages), sampled.choices)

    def _opened(self, route: Route, body: dict[str, Any], *, whole: bool) -> httpx.Response:
        """The answer to ``body``, read to its end where it is ``whole`` or an error; that is raised."""
        http = self._https[route.place]
        request = http.build_request("POST", "/v1/chat/completions", **json_content(body))
        with mapped_errors(request):
            response = http.send(request, stream=True)
        try:
            if whole or not response.is_success:
                with mapped_errors(request):
                    response.read()
            if not response.is_success:
                raise_error(response)
        except BaseException:
            response.close()
            raise
        return response

    def _token_ids(self, route: Route, messages: Messages) -> list[int]:
        ids = self._tokenize(route, messages).get("tokens")
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise EngineNonsense("POST /tokenize: no list of token ids")
        return ids

    def _tokenize(self, route: Route, messages: Messages) -> dict[str, Any]:
        body = {"model": route.name, "messages": [dict(m) for m in messages], "add_generation_prompt": True}
        return self._json("POST", "/tokenize", body, place=route.place)

    def _healthy(self, place: int) -> bool:
        try:
            return self._send("GET", "/health", timeout=_HEALTH_SECONDS, place=place).is_success
        except EngineUnavailable:
            return False

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, place: int) -> dict[str, Any]:
        return read_json(self._send(method, path, body, place=place))

    def _each(self, path: str) -> None:
        """Tell all of them; then the first error, if there was one."""
        errors: list[EngineUnavailable | EngineRefused] = []
        for place in range(len(self._https)):
            try:
                response = self._send("POST", path, place=place)
                if not response.is_success:
                    raise_error(response)
            except (EngineUnavailable, EngineRefused) as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        place: int,
        timeout: float | None = None,
    ) -> httpx.Response:
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout)
        http = self._https[place]
        request = http.build_request(method, path, **json_content(body), timeout=limit)
        with mapped_errors(request):
            return http.send(request)
