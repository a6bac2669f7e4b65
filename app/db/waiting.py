"""Waiting for Postgres in the event loop, which serves others meanwhile; for code that knows nothing of it.

A thread that waits for Postgres wakes to fight for the interpreter's lock: with ten of them at it, that took as long as
the work itself. Work that is run ``on_loop`` has a stack of its own (a greenlet): where the driver would wait, that is
put away until Postgres has answered. All other work waits in its thread, as ever.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet
from sqlalchemy.util.queue import Empty

P = ParamSpec("P")
T = TypeVar("T")

_INTERVAL_SECONDS = 60.0
"""How often a wait in the event loop looks up although nothing has happened; the loop itself minds interruptions."""


class Connection(psycopg.Connection[Any]):
    """The driver's connection, whose waiting is the event loop's where the work was started ``on_loop``."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """What ``gen`` returns. A cancelled wait closes the connection: nobody knows what it would have answered."""
        if timeout is not None or not in_greenlet():
            return super().wait(gen, interval, timeout)
        try:
            return await_only(waiting.wait_async(gen, self.pgconn.socket, _INTERVAL_SECONDS))
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


def connect(*arguments: Any, **parameters: Any) -> psycopg.Connection[Any]:
    """A new connection. Made by a thread where the work was started ``on_loop``: looking a host up may take long."""
    return aside(Connection.connect, *arguments, **parameters)


class Pool(QueuePool):
    """A pool of connections that a thread waits for, where the work was started ``on_loop``."""

    def _do_get(self) -> ConnectionPoolEntry:
        if not in_greenlet():
            return super()._do_get()
        try:
            return self._pool.get(block=False)
        except Empty:
            return aside(super()._do_get)


def aside(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What ``work`` returns: something that takes long, and is left to a thread where this was started ``on_loop``."""
    if in_greenlet():
        return await_only(asyncio.to_thread(work, *arguments, **named))
    return work(*arguments, **named)


async def on_loop(work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """What ``work`` returns: something short that waits for nothing but Postgres.

    Others wait for what it computes, unless that is put ``aside``. It may neither sleep nor ask another server.
    """
    return await greenlet_spawn(partial(work, *arguments, **named))
