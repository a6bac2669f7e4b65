"""Running Alembic's migrations, and asking how far a database has come."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

import app

ROOT = Path(app.__file__).resolve().parent.parent
"""The checkout: Hone is installed in place, beside its migrations and templates."""


def configuration() -> Config:
    """Alembic's configuration, wherever the program was started."""
    return Config(str(ROOT / "alembic.ini"))


def upgrade(engine: Engine) -> None:
    """Bring the database to the head, in one transaction; a second migrator waits for the first."""
    config = configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def head() -> str:
    """The newest revision this program knows."""
    revision = ScriptDirectory.from_config(configuration()).get_current_head()
    if revision is None:
        raise RuntimeError(f"there are no migrations in {ROOT / 'migrations' / 'versions'}")
    return revision


def current(engine: Engine) -> str | None:
    """The revision the database is at; none for an empty one. Read directly: Alembic would log at every look."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("select version_num from alembic_version"))
        return revision
