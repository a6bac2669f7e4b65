"""How a command (``hone users create``, ``hone export``, …) finds the installation that it works on."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from app.db import migrations
from app.db.session import make_engine
from app.local import stack
from app.local.errors import LocalError
from app.local.lock import DataLock, is_locked
from app.local.postgres import EmbeddedPostgres
from app.local.postgres_files import has_database
from app.settings import Settings


@contextmanager
def attach(settings: Settings, purpose: str, *, may_create: bool = False) -> Iterator[Settings]:
    """Settings with a database that answers.

    Where HONE_DATABASE_URL is set, that one: what was asked for outright comes first. Else the stack that runs on the
    data directory. Else the embedded Postgres of the data directory, started for as long as the command takes
    (and migrated, as ``hone up`` would).

    Args:
        purpose: the command's name, for whoever finds the data directory locked.
        may_create: make a new installation where there is none. Not for commands that look at one, or add to it: a
            mistyped directory would become an empty installation, and its backup an empty backup.

    Raises:
        LocalError: none of these is to be had.
    """
    settings = settings.model_copy(update={"data": settings.data.resolve()})
    if settings.database_url:
        yield with_stack(settings)
        return
    if is_locked(settings.data):
        yield _of_running_stack(settings)
        return
    if not may_create and not has_database(settings.data):
        raise LocalError(
            f"there is no installation in {settings.data}: name its directory with --data, or make one there with "
            f"`hone up --data {settings.data}`"
        )
    with DataLock(settings.data, purpose):
        postgres = EmbeddedPostgres(settings.data)
        try:
            with (settings.data / "logs" / "postgres.log").open("ab", buffering=0) as log:
                postgres.start(output=log)
            settings = settings.model_copy(update={"database_url": postgres.url()})
            engine = make_engine(settings)
            try:
                migrations.upgrade(engine)
            finally:
                engine.dispose()
            yield settings
        finally:
            postgres.stop()


def with_stack(settings: Settings) -> Settings:
    """``settings`` with what the stack running on its data directory knows, where it uses the same database."""
    running = stack.running(settings.data)
    if running is None or (settings.database_url and settings.database_url != running.database_url):
        return settings
    return settings.model_copy(
        update={
            "database_url": running.database_url,
            "redis_url": settings.redis_url or running.redis_url,
            "engine_url": settings.engine_url or running.engine_url,
            "engine_secret": settings.engine_secret
            if settings.engine_secret.get_secret_value()
            else SecretStr(running.engine_secret),
        }
    )


def _of_running_stack(settings: Settings) -> Settings:
    if stack.running(settings.data) is None:
        raise LocalError(
            f"{settings.data} is in use, but by a `hone up` that is still starting or stopping, or by another command: "
            "try again in a few seconds"
        )
    return with_stack(settings)
