"""A command finds its database: the configured one first, else the running stack's, else one it starts itself."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from app.db import migrations
from app.local import attach as attaching
from app.local.attach import attach
from app.local.errors import LocalError
from app.local.lock import DataLock, is_locked
from app.local.postgres import EmbeddedPostgres
from app.local.stack import Stack
from app.settings import Settings


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory whose embedded Postgres is a throw-away."""
    folder = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    folder.chmod(0o711)
    own = partial(EmbeddedPostgres, throw_away=True, system_home=folder / "system")
    monkeypatch.setattr(attaching, "EmbeddedPostgres", own)
    yield folder / "data"
    shutil.rmtree(folder)


def running_stack(data: Path, **changes: object) -> Stack:
    """What a ``hone up`` of this process would have written."""
    values: dict[str, object] = {
        "pid": 1,
        "url": "http://127.0.0.1:8000",
        "database_url": "postgresql://stack/hone",
        "redis_url": "redis://stack",
        "engine_url": "http://stack:1",
        "engine_secret": "s3cret",
        "started_at": "",
        "ready": True,
    }
    made = Stack(**(values | changes))  # type: ignore[arg-type]
    made.write(data)
    return made


def test_the_embedded_database_is_started_migrated_and_stopped(data: Path) -> None:
    with attach(Settings(data=data), "hone test", may_create=True) as settings:
        assert is_locked(data)
        engine = create_engine(settings.database_url)
        assert migrations.current(engine) == migrations.head()
        with engine.begin() as connection:
            connection.execute(text("create table kept ()"))
        engine.dispose()
    assert not is_locked(data)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(settings.database_url.replace("+psycopg", ""))
    with attach(Settings(data=data), "hone test") as settings:
        engine = create_engine(settings.database_url)
        with engine.connect() as connection:
            assert connection.scalar(text("select to_regclass('kept')")) == "kept"
        engine.dispose()


def test_a_running_stack_is_used_and_nothing_else_is_started(data: Path) -> None:
    with DataLock(data, "hone up"):
        running_stack(data)
        with attach(Settings(data=data), "hone test") as settings:
            assert settings.database_url == "postgresql://stack/hone"
            assert settings.redis_url == "redis://stack"
            assert settings.engine_secret.get_secret_value() == "s3cret"
    assert not (data / "postgres").exists()


def test_a_configured_database_comes_first_and_takes_nothing_from_another_stack(data: Path) -> None:
    with DataLock(data, "hone up"):
        running_stack(data)
        with attach(Settings(data=data, database_url="postgresql://mine/hone"), "hone test") as settings:
            assert settings.database_url == "postgresql://mine/hone"
            assert settings.engine_url == ""
        same = Settings(data=data, database_url="postgresql://stack/hone", engine_secret=SecretStr("mine"))
        with attach(same, "hone test") as settings:
            assert settings.engine_url == "http://stack:1"
            assert settings.engine_secret.get_secret_value() == "mine"


def test_a_stack_that_is_still_starting_or_a_file_left_by_a_killed_one(data: Path) -> None:
    with DataLock(data, "hone up"), pytest.raises(LocalError, match="try again in a few seconds"):  # noqa: SIM117
        with attach(Settings(data=data), "hone test"):
            pass
    running_stack(data)
    with attach(Settings(data=data), "hone test", may_create=True) as settings:
        assert settings.database_url != "postgresql://stack/hone"


def test_a_mistyped_directory_does_not_become_an_installation(data: Path) -> None:
    with pytest.raises(LocalError, match=rf"there is no installation in {data}: name its directory"):  # noqa: SIM117
        with attach(Settings(data=data), "hone test"):
            pass
    assert not data.exists()
