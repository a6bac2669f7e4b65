"""Clients that go away: work for them ends with them, and what is held for a stream is let go of with it."""

import asyncio
from collections.abc import AsyncIterable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody reads the answer any more. Logged as 499, as other servers do; it reaches no one."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, unless the client hangs up first: then it is cancelled. The body must have been read.

    Raises:
        ClientGoneError: nobody waits for the answer.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_hung_up(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for part in (task, watch):
            part.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class HeldStream(StreamingResponse):
    """A stream of server-sent events. What ``held`` holds is let go of when it ends, also when the client leaves."""

    def __init__(self, events: AsyncIterable[str], held: AsyncExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no", **headers},  # a proxy must not collect what is meant to be seen
        )
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                closing = getattr(self.body_iterator, "aclose", None)
                if closing is not None:
                    await closing()
                await self._held.aclose()
