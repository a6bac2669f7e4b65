"""The engine's streams for code that runs on an event loop, where a thread per open stream would be too many."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from app.engine.errors import EngineRefused, EngineUnavailable
from app.engine.places import Card, EngineKind, Places, Route, read_cards
from app.engine.protocol import Sampled, raise_error, read_json, read_sampled
from app.engine.requests import Messages, Sampling, chat_body, connection, json_content, mapped_errors
from app.engine.streaming import Piece, StreamReader, WholeAnswer


class AsyncChatStream:
    """Completions as they are sampled: iterate once; afterwards ``sampled`` has the whole answer."""

    def __init__(self, response: httpx.Response, n: int) -> None:
        self._response = response
        self._reader = StreamReader(n)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces of all completions, in the order they came; raises as ``ChatStream`` does."""
        with mapped_errors(self._response.request):
            async for data in self._response.aiter_bytes():
                for piece in self._reader.feed(data):
                    yield piece
                if self._reader.done:
                    break
        for piece in self._reader.end():
            yield piece

    @property
    def prompt_ids(self) -> list[int]:
        """What the model saw; known from the first piece on, empty where the server does not say."""
        return self._reader.prompt_ids

    def sampled(self) -> Sampled:
        """The whole answer, once every piece was read."""
        return self._reader.sampled()


AsyncAnswer = AsyncChatStream | WholeAnswer
"""What is read of a stream, and of an answer that came whole."""


class AsyncEngineClient:
    """The engines, from one event loop. Raises what ``EngineClient`` raises; ``aclose`` it, or ``async with``."""

    def __init__(
        self,
        base_url: str,
        secret: str = "",
        timeout_seconds: float = 120.0,
        *,
        kind: EngineKind = "vllm",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As ``EngineClient``; ``timeout_seconds`` is the longest silence tolerated between two pieces."""
        self._places = Places(base_url, kind)
        self._https = [
            httpx.AsyncClient(**connection(url, secret, timeout_seconds), transport=transport)
            for url in self._places.urls
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        for http in self._https:
            await http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    @asynccontextmanager
    async def stream(
        self, model: str, messages: Messages, sampling: Sampling, n: int, seed: int
    ) -> AsyncIterator[AsyncAnswer]:
        """``n`` completions, piece by piece; leaving the block early has the engine stop sampling.

        An error before the first piece (unknown model, too long a conversation, a full queue) is raised on entering.
        SGLang streams no token ids: its answer comes whole, as one piece for each completion.
        """
        route = self._places.known(model) or self._places.find(model, await self._look())
        body = chat_body(route.name, messages, sampling, n, seed)
        whole = self._places.kind == "sglang"
        response = await self._opened(route, body if whole else body | {"stream": True}, whole=whole)
        try:
            yield WholeAnswer(read_sampled(read_json(response), n, "sglang")) if whole else AsyncChatStream(response, n)
        finally:
            await response.aclose()

    async def _opened(self, route: Route, body: dict[str, Any], *, whole: bool) -> httpx.Response:
        """The answer to ``body``, read to its end where it is ``whole`` or an error; that is raised."""
        http = self._https[route.place]
        request = http.build_request("POST", "/v1/chat/completions", **json_content(body))
        with mapped_errors(request):
            response = await http.send(request, stream=True)
        try:
            if whole or not response.is_success:
                with mapped_errors(request):
                    await response.aread()
            if not response.is_success:
                raise_error(response)
        except BaseException as error:
            await response.aclose()
            if isinstance(error, EngineRefused) and error.code == "model_not_found":
                self._places.forget()
            raise
        return response

    async def _look(self) -> list[list[Card] | EngineUnavailable]:
        return [await self._listing(http) for http in self._https]

    async def _listing(self, http: httpx.AsyncClient) -> list[Card] | EngineUnavailable:
        request = http.build_request("GET", "/v1/models")
        try:
            with mapped_errors(request):
                response = await http.send(request)
            return read_cards(read_json(response))
        except EngineUnavailable as error:
            return error
