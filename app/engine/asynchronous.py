"""The engine's streams for code that runs on an event loop, where a thread per open stream would be too many."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import httpx

from app.engine.protocol import Sampled, raise_error
from app.engine.requests import Messages, Sampling, chat_body, connection, json_content, mapped_errors
from app.engine.streaming import Piece, StreamReader


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


class AsyncEngineClient:
    """One engine, from one event loop. Raises what ``EngineClient`` raises; ``aclose`` it, or ``async with``."""

    def __init__(
        self,
        base_url: str,
        secret: str = "",
        timeout_seconds: float = 120.0,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """``timeout_seconds`` is the longest silence tolerated between two pieces."""
        self._http = httpx.AsyncClient(**connection(base_url, secret, timeout_seconds), transport=transport)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    @asynccontextmanager
    async def stream(
        self, model: str, messages: Messages, sampling: Sampling, n: int, seed: int
    ) -> AsyncIterator[AsyncChatStream]:
        """``n`` completions, piece by piece; leaving the block early has the engine stop sampling.

        An error before the first piece (unknown model, too long a conversation, a full queue) is raised on entering.
        """
        body = chat_body(model, messages, sampling, n, seed) | {"stream": True}
        request = self._http.build_request("POST", "/v1/chat/completions", **json_content(body))
        with mapped_errors(request):
            response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with mapped_errors(request):
                    await response.aread()
                raise_error(response)
            yield AsyncChatStream(response, n)
        finally:
            await response.aclose()
