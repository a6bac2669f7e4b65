"""``hone backup`` and ``hone restore``: the database and the versions, as one verified file."""

import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, inspect, text
from sqlalchemy.engine import make_url

from app.db import migrations
from app.db.session import make_engine
from app.local import archive
from app.local.archive import DUMP, BackupError, Listing
from app.local.postgres_files import programs
from app.settings import Settings

HOLDING = ("users", "projects")
"""Tables of which one has a row in every installation that is in use."""


def back_up(settings: Settings, target: Path) -> Listing:
    """Write a backup of a database that answers, running or not, to ``target``.

    The dump is one snapshot, and a version is published before it is registered, so that the versions copied after it
    hold all that it names.

    Raises:
        BackupError: there is a file already, or it cannot be written, or there is nothing in the database, or its
            versions are not where ``settings`` say.
    """
    target = target.absolute()
    if target.exists():
        raise BackupError(f"{target} exists already: choose another name")
    engine = make_engine(settings)
    try:
        revision = migrations.current(engine)
        if revision is None:
            raise BackupError("the database is empty: there is nothing to back up")
        _require_contents(engine, settings)
    finally:
        engine.dispose()
    listing = Listing(datetime.now(UTC).isoformat(timespec="seconds"), version("hone"), revision)
    try:
        with tempfile.TemporaryDirectory(prefix=".hone-backup-", dir=target.parent) as folder:
            dump = Path(folder) / DUMP
            with dump.open("wb") as output:
                _program(settings, ["pg_dump", "--format=custom", "--no-owner", "--no-privileges"], stdout=output)
            return archive.write(target, listing=listing, dump=dump, versions=settings.versions_dir)
    except OSError as error:
        raise BackupError(f"{target} cannot be written ({(error.strerror or str(error)).lower()})") from error


def restore(settings: Settings, source: Path, *, force: bool) -> Listing:
    """Put a backup in the place of what is there: verified first, then the database in one transaction.

    Args:
        force: also where there is something already; old versions are then set aside, the old database is gone.

    Raises:
        BackupError: the file is not whole, was made by a newer Hone, or the target is not empty.
    """
    engine = make_engine(settings)
    try:
        if not force:
            _require_empty(engine, settings)
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hone-restore-", dir=settings.data) as folder:
            listing = archive.unpack(source, Path(folder))
            _require_known(listing, source)
            (Path(folder) / "versions").mkdir(exist_ok=True)
            _replace_database(settings, Path(folder) / DUMP)
            _replace_versions(settings, Path(folder) / "versions")
        migrations.upgrade(engine)
        return listing
    finally:
        engine.dispose()


def _require_contents(engine: Engine, settings: Settings) -> None:
    """A backup of nothing, or without the models, is found out on the day it is needed: refuse it today."""
    with engine.connect() as connection:
        if not any(connection.scalar(text(f"select exists(select from {table})")) for table in HOLDING):  # noqa: S608 - two names of ours
            raise BackupError("the database holds neither users nor projects: there is nothing to back up; is it the "
                              "right --data directory, or HONE_DATABASE_URL?")  # fmt: skip
        versions = connection.scalars(text("select id from versions")).all()
    if versions and not any((settings.versions_dir / str(id_)).is_dir() for id_ in versions):
        raise BackupError(f"the database names {len(versions)} versions, and {settings.versions_dir} holds none of "
                          "them: name the data directory they are in with --data")  # fmt: skip


def _require_empty(engine: Engine, settings: Settings) -> None:
    with engine.connect() as connection:
        for table in HOLDING:
            if inspect(connection).has_table(table) and connection.scalar(text(f"select exists(select from {table})")):  # noqa: S608 - two names of ours
                raise BackupError(f"the database holds {table} already: restore into a new --data directory, or give "
                                  "--force to replace what is there")  # fmt: skip
    if settings.versions_dir.exists() and any(settings.versions_dir.iterdir()):
        raise BackupError(f"{settings.versions_dir} is not empty: restore into a new --data directory, or give --force")


def _require_known(listing: Listing, source: Path) -> None:
    try:
        ScriptDirectory.from_config(migrations.configuration()).get_revision(listing.revision)
    except CommandError:
        raise BackupError(
            f"{source} was made by Hone {listing.hone} (database revision {listing.revision}), "
            f"which is newer than this one ({version('hone')}): update Hone first"
        ) from None


def _replace_database(settings: Settings, dump: Path) -> None:
    """Drop and refill the schema in one transaction: it is the old one or the new one, never half."""
    script = dump.with_name("database.sql")
    with script.open("wb") as output:
        output.write(b"drop schema if exists public cascade;\ncreate schema public;\n")
        output.flush()
        _program(
            settings, ["pg_restore", "--no-owner", "--no-privileges", "--file=-", dump], stdout=output, connect=False
        )
    command: list[str | Path] = ["psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
                                 "--output=/dev/null", "--file", script]  # fmt: skip
    _program(settings, command, stdout=None)


def _replace_versions(settings: Settings, restored: Path) -> None:
    target = settings.versions_dir
    if target.exists() and any(target.iterdir()):
        aside = target.with_name(f"versions.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        target.rename(aside)
    elif target.exists():
        target.rmdir()
    shutil.move(restored, target)
    target.chmod(0o700)


def _program(settings: Settings, command: list[str | Path], *, stdout: object, connect: bool = True) -> None:
    """Run one of Postgres' programs on the configured database; the password goes by environment, not by `ps`.

    Raises:
        BackupError: it failed; with its last line.
    """
    url = make_url(settings.sqlalchemy_url)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    arguments = [programs() / str(command[0]), *command[1:], *(["--dbname", plain] if connect else [])]
    result = subprocess.run(arguments, check=False, stdout=stdout or subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env=environment, stdin=subprocess.DEVNULL)  # type: ignore[call-overload]  # fmt: skip
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise BackupError(f"{command[0]} failed: {said[-1] if said else f'status {result.returncode}'}")
