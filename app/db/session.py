"""Engine and sessions. One synchronous path serves web and worker alike."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker

from app.db import waiting
from app.settings import Settings

SessionFactory = sessionmaker[Session]
TRUSTED_SECONDS = 2.0
"""A connection that was in use so lately is taken to be alive without asking it: one round trip less."""


PLACE_SECONDS = 10.0
"""Longest wait for one of the process's connections."""


NOTICED = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Seconds (of the last, milliseconds) within which it is noticed that the machine of Postgres, or the way to it, is
gone. Where ``HONE_DATABASE_URL`` says something else, that counts."""


def make_engine(
    settings: Settings,
    *,
    plan_once: bool = False,
    statement_seconds: float | None = None,
    idle_transaction_seconds: float | None = None,
) -> Engine:
    """A pool of ``database_pool_size`` connections to the configured Postgres.

    Args:
        plan_once: each connection plans a statement once, not for every set of values: the server's statements are
            short, and planning them took Postgres longer than running them. New statistics still make new plans.
        statement_seconds: Postgres gives up a statement that takes longer: nobody waits for its answer any more. Of
            what is read in pieces, each piece is a statement.
        idle_transaction_seconds: Postgres ends a connection that does nothing for so long in the middle of a
            transaction: its process hangs, and what it has locked would stay so for everybody else.

    Raises:
        ValueError: no database is configured.
    """
    if not settings.database_url:
        raise ValueError("no database is configured: set HONE_DATABASE_URL, or start the embedded one with `hone up`")
    url = make_url(settings.sqlalchemy_url)
    engine = create_engine(
        url,
        poolclass=waiting.Pool,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_timeout=PLACE_SECONDS,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
        hide_parameters=True,  # errors reach the log, and parameters are what people wrote
        connect_args={name: value for name, value in NOTICED.items() if name not in url.query}
        | {"application_name": "hone"},
    )
    event.listen(engine, "do_connect", _connect)
    parameters: dict[str, str | int] = {}
    if plan_once:
        parameters["plan_cache_mode"] = "force_generic_plan"
    if statement_seconds is not None:
        parameters["statement_timeout"] = round(1000 * statement_seconds)
    if idle_transaction_seconds is not None:
        parameters["idle_in_transaction_session_timeout"] = round(1000 * idle_transaction_seconds)
    if parameters:
        event.listen(engine, "connect", partial(_set, parameters))
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _require_life)
    return engine


def _connect(_dialect: Any, _record: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    return waiting.connect(*arguments, **parameters)


def _set(parameters: Mapping[str, str | int], connection: psycopg.Connection[Any], _record: Any) -> None:
    connection.execute("; ".join(f"SET {name} = {value}" for name, value in parameters.items()))
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
