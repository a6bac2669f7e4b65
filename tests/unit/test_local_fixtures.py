"""The database fixtures keep their word: isolation where they promise it, real commits where they promise those."""

import redis
from kombu import Connection
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker


def insert_user(session: Session, email: str) -> None:
    session.execute(
        text("create table if not exists probe (email text primary key)"),
    )
    session.execute(text("insert into probe values (:email)"), {"email": email})


def test_db_commits_are_undone_first(db: Session) -> None:
    insert_user(db, "a@example.org")
    db.commit()
    db.rollback()
    assert db.scalar(text("select count(*) from probe")) == 1


def test_db_commits_are_undone_second(db: Session, session_factory: sessionmaker[Session]) -> None:
    assert db.scalar(text("select to_regclass('probe')")) is None, "the test before this one left its rows behind"
    insert_user(db, "a@example.org")
    db.commit()
    with session_factory() as other:
        assert other.scalar(text("select count(*) from probe")) == 1


def test_fresh_database_is_migrated_empty_and_shared_by_connections(fresh_database: str, fresh_engine: Engine) -> None:
    with fresh_engine.begin() as connection:
        assert connection.scalar(text("select count(*) from alembic_version")) == 1
        assert connection.scalar(text("select count(*) from users")) == 0
        connection.execute(text("create table probe ()"))
    second = create_engine(fresh_database)
    with second.connect() as connection:
        assert connection.scalar(text("select to_regclass('probe')")) == "probe"
    second.dispose()


def test_redis_answers_over_kombu_and_redis_py(redis_url: str) -> None:
    with Connection(redis_url) as connection:
        connection.ensure_connection(max_retries=1)
        connection.default_channel.client.set("hone-test", "1")  # type: ignore[attr-defined] # of the Redis transport
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as client:
        assert client.get("hone-test") == b"1"
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
