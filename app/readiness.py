"""What this installation needs to serve: a database at the newest migration, and a current version in every project."""

from collections.abc import Callable

from sqlalchemy import Engine, exists, select, text
from sqlalchemy.orm import aliased

from app.db import migrations
from app.db.session import SessionFactory, transaction
from app.db.tables import Project, Version
from app.engine.client import EngineClient
from app.web.health import Check


class NotReadyError(Exception):
    """A check failed; the message says what to do."""


def checks(engine: Engine, factory: SessionFactory, engine_client: EngineClient) -> list[Check]:
    """In the order in which they are worth reading."""
    return [
        Check("database", _database(engine)),
        Check("migrations", _migrations(engine)),
        Check("versions", _versions(factory)),
        Check("engine", _sampling_engine(engine_client), needed=False),
    ]


def _database(engine: Engine) -> Callable[[], str]:
    def look() -> str:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        return "answers"

    return look


def _migrations(engine: Engine) -> Callable[[], str]:
    def look() -> str:
        at, newest = migrations.current(engine), migrations.head()
        if at != newest:
            raise NotReadyError(f"the database is at migration {at}, this program needs {newest}: run `hone migrate`")
        return newest

    return look


def _versions(factory: SessionFactory) -> Callable[[], str]:
    """Every project that has versions has a current one; a new project has none until its base is imported."""

    def look() -> str:
        current = aliased(Version)
        with transaction(factory) as db:
            without = db.scalars(
                select(Project.slug)
                .where(
                    Project.archived_at.is_(None),
                    exists().where(Version.project_id == Project.id, Version.state != "candidate"),
                    ~exists().where(current.project_id == Project.id, current.state == "current"),
                )
                .limit(5)
            ).all()
        if without:
            raise NotReadyError(f"no current version in {', '.join(without)}")
        return "every project has its current version, or none yet"

    return look


def _sampling_engine(client: EngineClient) -> Callable[[], str]:
    def look() -> str:
        if not client.health():
            raise NotReadyError("the engine does not answer; the buffer of comparisons lasts until it does")
        return "answers"

    return look
