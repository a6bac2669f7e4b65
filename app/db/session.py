"""Engine and sessions. One synchronous path serves web and worker alike."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings

SessionFactory = sessionmaker[Session]


def make_engine(settings: Settings) -> Engine:
    """A pool of ``database_pool_size`` connections to the configured Postgres.

    Raises:
        ValueError: no database is configured.
    """
    if not settings.database_url:
        raise ValueError("no database is configured: set HONE_DATABASE_URL, or start the embedded one with `hone up`")
    return create_engine(
        settings.sqlalchemy_url,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_pre_ping=True,
        pool_timeout=10,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False),
        connect_args={"connect_timeout": 5, "application_name": "hone"},
    )


def make_session_factory(engine: Engine) -> SessionFactory:
    """Sessions that keep their rows' values after the commit, so that an answer can be rendered from them."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: SessionFactory) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back when anything is raised."""
    with factory() as session, session.begin():
        yield session
