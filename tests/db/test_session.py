"""Connections: what one that hangs may keep from others."""

import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.session import make_engine
from app.settings import Settings


def test_a_frozen_transaction_lets_go_of_what_it_has_locked(pg_url: str) -> None:
    engine = make_engine(Settings(database_url=pg_url), idle_transaction_seconds=0.5)
    try:
        with engine.begin() as other:
            other.execute(text("CREATE TABLE held AS SELECT 1 AS n"))
        with engine.connect() as frozen, engine.connect() as other:
            frozen.execute(text("SELECT n FROM held FOR UPDATE"))
            skipped = text("SELECT n FROM held FOR UPDATE SKIP LOCKED")
            assert other.execute(skipped).all() == []
            other.rollback()
            time.sleep(1)
            assert other.execute(skipped).all() == [(1,)]
            with pytest.raises(DBAPIError, match="idle-in-transaction"):
                frozen.execute(text("UPDATE held SET n = 2"))
    finally:
        engine.dispose()
