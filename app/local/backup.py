"""``hone backup`` and ``hone restore``: the database and the versions, as one verified file."""

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, Row, inspect, text
from sqlalchemy.engine import make_url

from app.db import migrations
from app.db.session import make_engine
from app.local import archive, prune
from app.local.archive import DUMP, BackupError, Listing
from app.local.postgres_files import programs
from app.settings import Settings
from app.versions import manifest

SETTLING_SECONDS = 3.0
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
        BackupError: the file is not whole, was made by a newer Hone, or the target is in use or not empty.
    """
    engine = make_engine(settings)
    try:
        _require_unused(engine)
        if not force:
            _require_empty(engine, settings)
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hone-restore-", dir=settings.data) as folder:
            listing = archive.unpack(source, Path(folder))
            _require_known(listing, source)
            (Path(folder) / "versions").mkdir(exist_ok=True)
            _require_unused(engine)  # unpacking took its time
            _replace_database(settings, Path(folder) / DUMP)
            _replace_versions(settings, Path(folder) / "versions")
        migrations.upgrade(engine)
        return listing
    finally:
        engine.dispose()


@dataclass(frozen=True)
class PutBack:
    """What ``restore_versions`` did, version by version ("tone, version 3")."""

    put_back: list[str]
    not_there: list[str]
    """Missing or damaged still: the backup does not hold them. Without those whose files were pruned."""
    aside: Path | None
    """Where the damaged folders are now."""


def restore_versions(settings: Settings, source: Path) -> PutBack:
    """Put back the folders of versions that are missing or damaged, where the backup holds what the database names.

    The database is only read; a folder that verifies is not touched. May be done while Hone runs.

    Raises:
        BackupError: the file is not whole.
    """
    damaged = _damaged(settings)
    names = {str(row.id) for row in damaged}
    aside = _aside(settings)
    put_back, not_there, moved = [], [], False
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".hone-restore-", dir=settings.data) as folder:
        archive.unpack(source, Path(folder), wanted=lambda name: _version_of(name) in names)
        for row in damaged:
            whole, final = (Path(folder) / "versions" / str(row.id)), settings.versions_dir / str(row.id)
            if not _verifies(whole, row.digest):
                if not (row.pruned and not final.exists()):
                    not_there.append(row.name)
                continue
            if final.exists():
                aside.mkdir(mode=0o700, exist_ok=True)
                final.rename(aside / final.name)
                moved = True
            manifest.publish(whole, final)
            put_back.append(row.name)
    return PutBack(put_back, not_there, aside if moved else None)


def _damaged(settings: Settings) -> list[Row[Any]]:
    """Id, digest and name of the versions whose folder does not verify, and whether it was removed on purpose."""
    named = text(
        "select v.id, v.digest, p.slug || ', version ' || v.number as name, exists(select from audit_log "
        "where action = :pruned and subject = 'version:' || v.id) as pruned "
        "from versions v join projects p on p.id = v.project_id order by p.slug, v.number"
    ).bindparams(pruned=prune.ACTION)
    engine = make_engine(settings)
    try:
        with engine.connect() as connection:
            rows = connection.execute(named).all()
    finally:
        engine.dispose()
    return [row for row in rows if not _verifies(settings.versions_dir / str(row.id), row.digest)]


def _verifies(folder: Path, digest: str) -> bool:
    try:
        return manifest.verify(folder) == digest
    except (manifest.ManifestError, OSError):
        return False


def _version_of(member: str) -> str:
    """The version that a file of a backup belongs to; empty for the others."""
    parts = PurePosixPath(member).parts
    return parts[1] if len(parts) > 2 and parts[0] == "versions" else ""


def _aside(settings: Settings) -> Path:
    return settings.data / f"versions.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S}"


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


def _require_unused(engine: Engine) -> None:
    """Programs that go on after their database was replaced would write what they still hold into the new one.

    What has just ended may take a moment until Postgres has noticed.
    """
    others = text(
        "select count(*), count(distinct client_addr) from pg_stat_activity "
        "where datname = current_database() and application_name like 'hone%' and pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        with engine.connect() as connection:
            count, addresses = connection.execute(others).one()
        if not count:
            return
        if time.monotonic() > deadline:
            where = f", from {addresses} addresses" if addresses > 1 else ""
            raise BackupError(f"Hone runs on this database ({count} connections{where}): stop what uses it (`hone up`, "
                              "or web, worker and beat on every machine) first, then restore")  # fmt: skip
        time.sleep(0.1)


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
        target.rename(_aside(settings))
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
