"""Work in the event loop that waits for Postgres: others go on, threads connect, and nothing is left over."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db import session as sessions
from app.db import waiting
from app.db.direct import Direct
from app.db.session import SessionFactory, make_engine, make_session_factory
from app.db.waiting import aside, on_loop
from app.language import current, speaking
from app.settings import Settings

TURN = Direct(text("SELECT pg_advisory_xact_lock(7)"))
WHO = Direct(text("SELECT pg_backend_pid()"))


def run(work: Coroutine[Any, Any, None]) -> None:
    """In an event loop of a thread of its own: browser tests leave one running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@pytest.fixture
def small_engine(pg_url: str) -> Iterator[Engine]:
    """Of two connections, on which no lock is waited for longer than ten seconds."""
    made = make_engine(Settings(database_url=f"{pg_url}&options=-c%20lock_timeout%3D10s", database_pool_size=2))
    yield made
    made.dispose()


@pytest.fixture
def factory(small_engine: Engine) -> SessionFactory:
    """Sessions on it."""
    return make_session_factory(small_engine)


@pytest.fixture
def taken(engine: Engine) -> Iterator[Session]:
    """Somebody else's transaction, which has the lock that ``TURN`` asks for."""
    with make_session_factory(engine)() as other:
        TURN.all(other, {})
        yield other


def test_others_go_on_while_one_waits(factory: SessionFactory, taken: Session) -> None:
    async def both() -> None:
        with factory() as one, factory() as other:
            waits = asyncio.create_task(on_loop(TURN.all, one, {}))
            for _ in range(3):
                assert await on_loop(other.scalar, text("SELECT 1")) == 1
                await on_loop(other.commit)
            assert not waits.done()
            taken.rollback()
            assert len(await waits) == 1

    run(both())


def test_what_is_refused_is_said_as_in_a_thread(factory: SessionFactory) -> None:
    async def refused() -> None:
        with factory() as db:
            with pytest.raises(DBAPIError, match="division by zero"):
                await on_loop(db.execute, text("SELECT 1 / 0"))
            await on_loop(db.rollback)
            assert await on_loop(db.scalar, text("SELECT 1")) == 1

    run(refused())


@pytest.mark.parametrize("ask", [lambda db: TURN.all(db, {}), lambda db: db.execute(text(TURN.sql))])
def test_a_wait_that_is_cancelled_leaves_no_connection_in_the_middle_of_it(
    factory: SessionFactory, small_engine: Engine, taken: Session, ask: Callable[[Session], Any]
) -> None:
    async def left() -> None:
        with factory() as db:
            pid = await on_loop(WHO.value, db, {})
            waits = asyncio.create_task(on_loop(ask, db))
            await asyncio.sleep(0.05)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
        with factory() as db:
            assert await on_loop(WHO.value, db, {}) != pid

    run(left())
    assert small_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_connections_are_made_by_threads(
    factory: SessionFactory, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, and one in place of another that was lost while it lay idle."""
    made_by: list[threading.Thread] = []
    loops: list[threading.Thread] = []
    connect = waiting.Connection.connect

    def noted(*arguments: Any, **parameters: Any) -> psycopg.Connection[Any]:
        made_by.append(threading.current_thread())
        return connect(*arguments, **parameters)

    monkeypatch.setattr(waiting.Connection, "connect", noted)
    monkeypatch.setattr(sessions, "TRUSTED_SECONDS", 0.0)

    async def used() -> int:
        with factory() as db:
            return int(await on_loop(WHO.value, db, {}))

    async def lost_between() -> None:
        loops.append(threading.current_thread())
        first = await used()
        assert await used() == first
        with engine.connect() as admin:
            assert admin.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
        assert await used() != first

    run(lost_between())
    assert len(made_by) == 2
    assert not set(made_by) & set(loops)


def test_a_place_in_a_full_pool_is_waited_for_by_a_thread(factory: SessionFactory) -> None:
    """Also in the middle of work, whose own place went to another one when it was done with the first transaction."""
    others = [factory() for _ in range(4)]

    def after_a_transaction(db: Session) -> Any:
        db.scalar(text("SELECT 1"))
        db.commit()
        others[3].scalar(text("SELECT 1"))
        return db.scalar(text("SELECT 2"))

    async def full() -> None:
        for other in others[:3]:
            other.scalar(text("SELECT 1"))
        with factory() as db:
            waits = asyncio.create_task(on_loop(after_a_transaction, db))
            began = time.monotonic()
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < 5, "the loop stood still"
            assert others[3].in_transaction()
            assert not waits.done()
            others[0].rollback()
            assert await waits == 2
            await on_loop(db.rollback)

    run(full())
    for other in others:
        other.close()


def test_what_takes_long_is_put_aside_and_knows_whom_it_is_for() -> None:
    def found() -> tuple[threading.Thread, str]:
        return threading.current_thread(), current()

    async def asked() -> None:
        with speaking("de"):
            thread, tag = await on_loop(aside, found)
            assert thread is not threading.current_thread()
            assert tag == "de"
            assert await on_loop(current) == "de"

    run(asked())
    assert aside(found)[0] is threading.current_thread()
