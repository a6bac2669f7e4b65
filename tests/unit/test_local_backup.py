"""A backup brings back what there was; what is not whole, or would overwrite, is refused before anything changes."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from app.db import migrations
from app.db.session import make_engine, make_session_factory, transaction
from app.local import backup
from app.local.archive import BackupError
from app.settings import Settings
from app.versions import manifest
from tests.factories import rows


@pytest.fixture
def source(fresh_database: str, tmp_path: Path) -> Settings:
    """An installation with a user and a version."""
    settings = Settings(data=tmp_path / "source", database_url=fresh_database)
    version = settings.versions_dir / "0193-a-version"
    version.mkdir(parents=True)
    (version / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    (version / "manifest.json").write_text("{}")
    add_user(settings, "kept@example.org")
    return settings


@pytest.fixture
def target(empty_database: str, tmp_path: Path) -> Settings:
    """A new, empty installation."""
    return Settings(data=tmp_path / "target", database_url=empty_database)


@pytest.fixture
def file(source: Settings, tmp_path: Path) -> Path:
    """A backup of ``source``."""
    made = tmp_path / "hone.tar.gz"
    backup.back_up(source, made)
    return made


def add_user(settings: Settings, email: str) -> None:
    run(settings, f"insert into users (id, email, name, password_hash, is_site_admin, is_active) values "
                  f"(gen_random_uuid(), '{email}', '', 'x', false, true)")  # fmt: skip


def run(settings: Settings, statement: str) -> None:
    engine = create_engine(settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def users(settings: Settings) -> list[str]:
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = list(connection.scalars(text("select email from users order by email")))
    engine.dispose()
    return found


def rewritten(file: Path, name: str, content: bytes) -> Path:
    """A copy of a backup in which one member has other content, or that has one member more."""
    made = file.with_name(f"changed-{file.name}")
    with tarfile.open(file) as before, tarfile.open(made, "w:gz") as after:
        names = before.getnames()
        for member in [*before.getmembers(), *([tarfile.TarInfo(name)] if name not in names else [])]:
            stream = before.extractfile(member) if member.name in names else None
            data = content if member.name == name else (stream.read() if stream else b"")
            member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    return made


def test_round_trip(source: Settings, target: Settings, file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    add_user(source, "later@example.org")
    listing = backup.restore(target, file, force=False)
    assert users(target) == ["kept@example.org"]
    restored = {path.name: path.read_bytes() for path in (target.versions_dir / "0193-a-version").iterdir()}
    assert restored == {path.name: path.read_bytes() for path in (source.versions_dir / "0193-a-version").iterdir()}
    engine = create_engine(target.database_url)
    assert migrations.current(engine) == migrations.head() == listing.revision
    engine.dispose()
    assert sorted(path.name for path in target.data.iterdir()) == ["versions"], "scratch files were left behind"
    add_user(target, "new@example.org")  # what was restored can be written to


def test_nothing_is_overwritten_without_force(source: Settings, file: Path, tmp_path: Path) -> None:
    add_user(source, "later@example.org")
    with pytest.raises(BackupError, match="exists already"):
        backup.back_up(source, file)
    with pytest.raises(BackupError, match="holds users already"):
        backup.restore(source, file, force=False)
    run(source, "delete from users")
    with pytest.raises(BackupError, match="is not empty"):
        backup.restore(source, file, force=False)
    add_user(source, "later@example.org")
    (source.versions_dir / "newer").mkdir()
    backup.restore(source, file, force=True)
    assert users(source) == ["kept@example.org"]
    assert [path.name for path in source.versions_dir.iterdir()] == ["0193-a-version"]
    aside = list(source.data.glob("versions.before-restore-*"))
    assert sorted(path.name for path in aside[0].iterdir()) == ["0193-a-version", "newer"]


def test_a_changed_file_is_named_and_nothing_is_touched(target: Settings, file: Path) -> None:
    migrated = create_engine(target.database_url)
    migrations.upgrade(migrated)
    migrated.dispose()
    add_user(target, "there@example.org")
    name = "versions/0193-a-version/model.safetensors"
    with pytest.raises(BackupError, match=rf"{name} in .* is not what was backed up"):
        backup.restore(target, rewritten(file, name, b"other"), force=True)
    assert users(target) == ["there@example.org"]
    assert not target.versions_dir.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "versions/../../outside", "versions/unlisted"])
def test_what_is_not_listed_is_never_written(target: Settings, file: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BackupError, match="do not trust it"):
        backup.restore(target, rewritten(file, name, b"x"), force=False)
    assert not list(tmp_path.rglob("outside"))


def test_a_listed_path_that_leads_outside_is_refused(target: Settings, file: Path, tmp_path: Path) -> None:
    with tarfile.open(file) as archive:
        stream = archive.extractfile("backup.json")
        assert stream is not None
        listing = json.loads(stream.read())
    listing["files"]["../outside"] = {"bytes": 1, "sha256": "0"}
    changed = rewritten(rewritten(file, "backup.json", json.dumps(listing).encode()), "../outside", b"x")
    with pytest.raises(BackupError, match="do not trust it"):
        backup.restore(target, changed, force=False)
    assert not list(tmp_path.rglob("outside"))


def test_a_newer_hones_backup_is_refused(target: Settings, file: Path) -> None:
    with tarfile.open(file) as archive:
        stream = archive.extractfile("backup.json")
        assert stream is not None
        listing = json.loads(stream.read()) | {"revision": "9999", "hone": "9.9"}
    with pytest.raises(BackupError, match=r"made by Hone 9.9 .* update Hone first"):
        backup.restore(target, rewritten(file, "backup.json", json.dumps(listing).encode()), force=False)


def test_a_backup_of_nothing_is_refused(source: Settings, tmp_path: Path) -> None:
    run(source, "delete from users")
    with pytest.raises(BackupError, match="neither users nor projects"):
        backup.back_up(source, tmp_path / "empty.tar.gz")
    assert not (tmp_path / "empty.tar.gz").exists()


def test_a_backup_without_the_models_is_refused(fresh_engine: Engine, tmp_path: Path) -> None:
    with transaction(make_session_factory(fresh_engine)) as db:
        rows.make_version(db, rows.make_project(db), number=1, state="current")
    url = fresh_engine.url.render_as_string(hide_password=False)
    with pytest.raises(BackupError, match=r"names 1 versions, and .*versions holds none of them"):
        backup.back_up(Settings(data=tmp_path / "typo", database_url=url), tmp_path / "half.tar.gz")


@pytest.mark.parametrize("force", [False, True])
def test_a_database_that_hone_uses_is_not_replaced(target: Settings, file: Path, force: bool) -> None:
    running = make_engine(target)
    try:
        with running.connect(), pytest.raises(BackupError, match=r"Hone runs on this database \(1 connections\): stop"):
            backup.restore(target, file, force=force)
        assert not target.versions_dir.exists()
    finally:
        running.dispose()
    backup.restore(target, file, force=force)


def version_on_disk(settings: Settings, id_: object, content: bytes) -> str:
    """A version's folder; its digest."""
    folder = settings.versions_dir / str(id_)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    return manifest.write_manifest(folder)


def test_only_what_is_damaged_is_put_back_and_votes_stay(source: Settings, tmp_path: Path) -> None:
    engine = make_engine(source)
    with transaction(make_session_factory(engine)) as db:
        project = rows.make_project(db, slug="tone")
        ids = [rows.make_version(db, project, number=number, state="retired").id for number in (1, 2, 3)]
    for id_ in ids:
        digest = version_on_disk(source, id_, str(id_).encode())
        run(source, f"update versions set digest = '{digest}' where id = '{id_}'")
    made = tmp_path / "versions.tar.gz"
    backup.back_up(source, made)
    whole, damaged, missing = (source.versions_dir / str(id_) for id_ in ids)
    add_user(source, "since@example.org")
    inode = whole.stat().st_ino
    (damaged / "model.safetensors").write_bytes(b"rot")
    shutil.rmtree(missing)
    (source.versions_dir / "unknown").mkdir()

    done = backup.restore_versions(source, made)
    assert done.put_back == ["tone, version 2", "tone, version 3"]
    assert done.not_there == []
    assert done.aside is not None
    assert (done.aside / damaged.name / "model.safetensors").read_bytes() == b"rot"
    assert [(folder / "model.safetensors").read_text() for folder in (whole, damaged, missing)] == list(map(str, ids))
    assert whole.stat().st_ino == inode
    assert (source.versions_dir / "unknown").exists()
    assert users(source) == ["kept@example.org", "since@example.org"]
    assert backup.restore_versions(source, made) == backup.PutBack([], [], None)
    assert not list(source.data.glob(".hone-restore-*"))

    run(source, f"update versions set digest = 'other' where id = '{ids[0]}'")
    done = backup.restore_versions(source, made)
    assert (done.put_back, done.not_there, done.aside) == ([], ["tone, version 1"], None)
    assert whole.stat().st_ino == inode, "it was replaced by something that is no better"
    engine.dispose()


def broken_files(file: Path) -> Iterator[tuple[str, bytes, str]]:
    whole = file.read_bytes()
    yield "cut off", whole[: len(whole) // 2], "take another copy"
    yield "text", b"hello", "no whole backup"
    yield "empty tar", gzip.compress(b"\0" * 10240), "not a backup made by"


def test_files_that_are_no_backup(target: Settings, file: Path, tmp_path: Path) -> None:
    for name, content, message in broken_files(file):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BackupError, match=message):
            backup.restore(target, path, force=False)
    with pytest.raises(BackupError, match="cannot be read"):
        backup.restore(target, tmp_path / "missing", force=False)


def test_a_backup_that_cannot_be_written_leaves_nothing(source: Settings) -> None:
    with pytest.raises(BackupError, match="cannot be written"):
        backup.back_up(source, Path("/proc/hone.tar.gz"))
