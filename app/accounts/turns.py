"""Whose password is looked at next: networks take turns, so that none of them keeps the others waiting.

A hash takes a core for tens of milliseconds, and few are made at once (``app.accounts.passwords``). Each network
(``app.accounts.throttle.network_of``) has one sign-in under way at a time; its others wait in the event loop, where
they hold neither a thread nor a connection to Postgres, and networks that wait are served one after the other.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, Request

from app.accounts.passwords import RETRY_SECONDS, WAIT_SECONDS, TooBusyError
from app.accounts.throttle import network_of
from app.errors import DomainError
from app.language import _, _n
from app.web.deps import received

AT_ONCE = 4
"""Sign-ins under way in this process, each of another network: those beyond the two that hash talk to Postgres."""
WAITING = 40
"""Of one network: an office that comes in at the same minute is served within some seconds, one after the other."""


class TooManyAtOnceError(DomainError):
    """So many sign-ins of one network wait already that one more would not be served in time."""

    code = "too_many_sign_ins"
    status = 429
    title = _("Too many sign-ins at once")


class Turns:
    """Who may begin. Belongs to one event loop."""

    def __init__(self, *, at_once: int = AT_ONCE, waiting: int = WAITING, wait_seconds: float = WAIT_SECONDS) -> None:
        self._at_once = at_once
        self._most_waiting = waiting
        self._wait_seconds = wait_seconds
        self._under_way: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By network, in the order in which networks are served next."""

    @asynccontextmanager
    async def turn(self, network: str) -> AsyncIterator[None]:
        """Wait for a turn of ``network``, and have it for the block.

        Raises:
            TooManyAtOnceError: as many as may wait do so already.
            TooBusyError: it did not come in time.
        """
        await self._take(network)
        try:
            yield
        finally:
            self._give_back(network)

    async def _take(self, network: str) -> None:
        queue = self._waiting.setdefault(network, deque())
        if len(queue) >= self._most_waiting:
            raise TooManyAtOnceError(
                _n(
                    "%(n)s sign-in of your network is waiting already.",
                    "%(n)s sign-ins of your network are waiting already.",
                    len(queue),
                ),
                mend=_n("Try again in a second.", "Try again in %(n)s seconds.", RETRY_SECONDS),
                retry_after_seconds=RETRY_SECONDS,
            )
        mine = asyncio.get_running_loop().create_future()
        queue.append(mine)
        self._next()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await mine
        except (TimeoutError, asyncio.CancelledError) as error:
            self._leave(network, mine)
            if isinstance(error, TimeoutError):
                raise TooBusyError.now() from None
            raise

    def _leave(self, network: str, mine: asyncio.Future[None]) -> None:
        """Stop waiting. A turn that came at this very moment goes to somebody else."""
        if mine in self._waiting.get(network, ()):
            self._waiting[network].remove(mine)
        elif mine.done() and not mine.cancelled():
            self._give_back(network)
        self._next()

    def _give_back(self, network: str) -> None:
        self._under_way.remove(network)
        if network in self._waiting:
            self._waiting[network] = self._waiting.pop(network)  # behind all others
        self._next()

    def _next(self) -> None:
        for network in list(self._waiting):
            queue = self._waiting[network]
            while queue and queue[0].cancelled():
                queue.popleft()
            if queue and network not in self._under_way and len(self._under_way) < self._at_once:
                self._under_way.add(network)
                queue.popleft().set_result(None)
            if not queue:
                del self._waiting[network]


async def _turn(request: Request) -> AsyncIterator[None]:
    await received(request)  # whoever sends slowly has no turn meanwhile
    turns: Turns = request.app.state.sign_in_turns
    async with turns.turn(network_of(request.client.host if request.client else None)):
        yield


def in_turn() -> Any:
    """For routes that look at a password, before all else they ask for: ``dependencies=[in_turn(), …]``.

    The turn ends when the route has returned, not when its answer has been read.
    """
    return Depends(_turn, scope="function")
