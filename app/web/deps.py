"""What routes ask for: the database, the settings, rendering, forms.

A request is one transaction. ``Db`` is committed after the route has returned and before the first byte of the answer
leaves (``scope="function"``); when the commit fails, so does the request. After it, what the request put in the outbox
is sent by a thread of its own, so that no answer waits for the broker.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import Depends, Request
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.db.session import PLACE_SECONDS
from app.db.waiting import on_loop
from app.journal.outbox import enqueued
from app.settings import Settings
from app.web.csrf import FORM_TYPES, SAFE_METHODS
from app.web.rendering import Renderer
from app.web.replies import is_htmx, see_other

__all__ = ["AppSettings", "Db", "Fields", "Render", "is_htmx", "leave", "received", "see_other", "without_thread"]

T = TypeVar("T")


class Place:
    """One of as many places as there are connections, or none: given back once, however often that is said."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def take(self) -> None:
        """Wait for one in the event loop, where that costs nothing. In the pool it would take a thread, and those who
        hold the connections need threads to go on.

        Raises:
            PoolTimeout: none was free in time.
        """
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no connection within {PLACE_SECONDS:.0f} s") from None
        self._taken = True

    def give_back(self) -> None:
        """Let somebody else have it."""
        if self._taken:
            self._taken = False
            self._places.release()


async def _session(request: Request) -> AsyncIterator[Session]:
    """The request's session, in a place of its own. A body that is still on its way is waited for before."""
    state = request.app.state
    if request.method not in SAFE_METHODS:
        await received(request)
    place = request.state.place = Place(state.database_places)
    await place.take()
    try:
        db: Session = state.session_factory()
        try:
            yield db
            if db.in_transaction():
                await on_loop(db.commit)
        finally:
            if db.in_transaction():  # not committed: the rollback is a round trip
                with anyio.CancelScope(shield=True):
                    await on_loop(db.close)
            else:
                db.close()
    finally:
        place.give_back()
    if enqueued(db):
        state.after_commit()


async def received(request: Request) -> None:
    """Read all of the body, so that nobody who sends it slowly holds a connection, or a turn, meanwhile."""
    if request.headers.get("content-type", "").startswith(FORM_TYPES):
        await request.form()
    else:
        await request.body()


def leave(request: Request, db: Session) -> None:
    """Give the request's place back before its route returns, for those that wait for a model. ``db`` is done with.

    Raises:
        RuntimeError: something in it is not committed.
    """
    if db.in_transaction():
        raise RuntimeError("a place is given back after the commit")
    db.close()
    request.state.place.give_back()


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Db = Annotated[Session, Depends(_session, scope="function")]
"""The request's session: services flush, this commits."""

AppSettings = Annotated[Settings, Depends(_settings)]


async def _fields(request: Request) -> FormData:
    return await request.form()


Fields = Annotated[FormData, Depends(_fields)]
"""The posted form, for routes whose fields are not known beforehand. Otherwise declare ``Annotated[str, Form()]``."""


async def _renderer(request: Request, db: Db) -> Renderer:
    return Renderer(request, db)


Render = Annotated[Renderer, Depends(_renderer)]
"""``render("compare/page.html", block="pair", **context)``: the page, or for HTMX only the block."""


def without_thread(route: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Run a route with a parameter ``db: Db`` in the event loop, within the limits of ``app.db.waiting.on_loop``.

    For the routes that are asked most. All others have a thread for each request.
    """

    @wraps(route)
    async def answered(*, db: Session, **values: Any) -> T:
        return await on_loop(route, db=db, **values)

    return answered
