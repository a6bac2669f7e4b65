"""Connections: what one that hangs may keep from others."""

import threading
import time

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db.session import make_engine
from app.settings import Settings
from tests.fixtures.portal import Portal


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


def test_a_statement_that_nobody_waits_for_ends(pg_url: str) -> None:
    engine = make_engine(Settings(database_url=pg_url), plan_once=True, statement_seconds=0.2)
    with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(5)"))
    engine.dispose()


def test_what_the_address_says_of_the_connection_counts(pg_url: str) -> None:
    address = f"{pg_url}&keepalives_idle=7&connect_timeout=9"
    with make_engine(Settings(database_url=address)).connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        said = driver.info.get_parameters()
        connection.invalidate()
    assert (said["keepalives_idle"], said["connect_timeout"], said["keepalives_count"]) == ("7", "9", "3")


def end_those_who_wait(engine: Engine, waiting: str, ended: threading.Event) -> None:
    """Have Postgres end whoever waits for a lock in a statement that starts so, until there was one."""
    found = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE :statement"
    )
    with engine.connect() as connection:
        while not ended.wait(0.05):
            if connection.execute(found, {"statement": f"{waiting}%"}).all():
                ended.set()
            connection.rollback()


def test_what_was_sent_is_not_in_the_log_when_postgres_ends_the_statement(
    portal: Portal, fresh_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    boss = portal.user("boss@example.org")
    program = portal.token(boss)
    project = portal.project("Letters", boss)
    ended = threading.Event()
    ending = threading.Thread(target=end_those_who_wait, args=(fresh_engine, "insert into prompts", ended))
    with fresh_engine.connect() as other:
        other.execute(text("LOCK TABLE prompts IN SHARE MODE"))
        ending.start()
        answer = program.post(f"/api/v1/projects/{project.slug}/prompts", json={"prompts": [{"prompt": "pssst"}]})
        was_ended = ended.is_set()
        ended.set()
        ending.join()
    assert (was_ended, answer.status_code) == (True, 503)
    assert "database_unavailable" in caplog.text
    assert "pssst" not in caplog.text
