"""What this installation needs to serve: a database at the newest migration, and a current version in every project."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from app.db import migrations
from app.db.session import SessionFactory, transaction
from app.db.tables import Project, Version
from app.engine.client import EngineClient
from app.versions.manifest import MANIFEST_FILE
from app.web.health import Check, NotReadyError


def checks(engine: Engine, factory: SessionFactory, engine_client: EngineClient, versions_dir: Path) -> list[Check]:
    """In the order in which they are worth reading."""
    return [
        Check("database", _database(engine)),
        Check("migrations", _migrations(engine)),
        Check("versions", _versions(factory)),
        Check("files", _files(factory, versions_dir), needed=False),
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
            raise NotReadyError(
                f"the database is at migration {at or 'none'}, this program needs {newest}: run `hone migrate`"
            )
        return newest

    return look


def _versions(factory: SessionFactory) -> Callable[[], str]:
    """Every project that has versions has a current one; a new project has none until its base is imported."""

    def look() -> str:
        current = aliased(Version)
        with transaction(factory) as db:
            without = db.scalar(
                select(func.count())
                .select_from(Project)
                .where(
                    Project.archived_at.is_(None),
                    exists().where(Version.project_id == Project.id, Version.state != "candidate"),
                    ~exists().where(current.project_id == Project.id, current.state == "current"),
                )
            )
        if without:
            raise NotReadyError(f"projects without a current version: {without}; promote one on their versions pages")
        return "every project has its current version, or none yet"

    return look


def missing_files(db: Session, versions_dir: Path) -> int:
    """Current versions whose manifest is not on disk. Whether the files are what it says, `hone doctor` looks up."""
    query = (
        select(Version.id)
        .join(Project, Project.id == Version.project_id)
        .where(Version.state == "current", Project.archived_at.is_(None))
    )
    current = db.scalars(query).all()
    return sum(not (versions_dir / str(id_) / MANIFEST_FILE).is_file() for id_ in current)


def _files(factory: SessionFactory, versions_dir: Path) -> Callable[[], str]:
    def look() -> str:
        with transaction(factory) as db:
            missing = missing_files(db, versions_dir)
        if missing:
            raise NotReadyError(f"current versions whose files are not there: {missing}; `hone doctor` names them")
        return "every current version has its manifest"

    return look


def _sampling_engine(client: EngineClient) -> Callable[[], str]:
    def look() -> str:
        if not client.health():
            raise NotReadyError("the engine does not answer; the buffer of comparisons lasts until it does")
        return "answers"

    return look
