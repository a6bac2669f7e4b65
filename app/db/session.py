"""Engine and sessions. One synchronous path serves web and worker alike."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker

from app.db import waiting
from app.settings import Settings

SessionFactory = sessionmaker[Session]
TRUSTED_SECONDS = 2.0
"""A connection that was in use so lately is taken to be alive without asking it: one round trip less."""


PLACE_SECONDS = 10.0
"""Longest wait for one of the process's connections."""


def make_engine(
    settings: Settings, *, plan_once: bool = False, idle_transaction_seconds: float | None = None
) -> Engine:
    """A pool of ``database_pool_size`` connections to the configured Postgres.

    Args:
        plan_once: each connection plans a statement once, not for every set of values: the server's statements are
            short, and planning them took Postgres longer than running them. New statistics still make new plans.
        idle_transaction_seconds: Postgres ends a connection that does nothing for so long in the middle of a
            transaction: its process hangs, and what it has locked would stay so for everybody else.

    Raises:
        ValueError: no database is configured.
    """
    if not settings.database_url:
        raise ValueError("no database is configured: set HONE_DATABASE_URL, or start the embedded one with `hone up`")
    engine = create_engine(
        settings.sqlalchemy_url,
        poolclass=waiting.Pool,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_timeout=PLACE_SECONDS,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
        hide_parameters=True,  # errors reach the log, and parameters are what people wrote
        connect_args={"connect_timeout": 5, "application_name": "hone"},
    )
    event.listen(engine, "do_connect", _connect)
    if plan_once:
        event.listen(engine, "connect", _plan_once)
    if idle_transaction_seconds is not None:
        event.listen(engine, "connect", partial(_end_when_idle, idle_transaction_seconds))
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _require_life)
    return engine


def _connect(_dialect: Any, _record: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    return waiting.connect(*arguments, **parameters)


def _plan_once(connection: psycopg.Connection[Any], _record: Any) -> None:
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.commit()


def _end_when_idle(seconds: float, connection: psycopg.Connection[Any], _record: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {round(1000 * seconds)}")
    connection.commit()


def _remember_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _require_life(connection: psycopg.Connection[Any], record: Any, _proxy: Any) -> None:
    """Ask a connection that has lain idle whether it is still there; the pool then opens another one."""
    if time.monotonic() - record.info.get("used_at", 0.0) < TRUSTED_SECONDS:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError("the connection was lost while it lay idle") from error


def make_session_factory(engine: Engine) -> SessionFactory:
    """Sessions that keep their rows' values after the commit, so that an answer can be rendered from them."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: SessionFactory) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back when anything is raised."""
    with factory() as session, session.begin():
        yield session
