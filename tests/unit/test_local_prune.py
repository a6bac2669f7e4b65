"""What goes is needed by nobody; what stays can be promoted, trained from and gone back to."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import AuditEntry, Round, Version
from app.local import backup, prune
from app.rounds.errors import VersionDamagedError
from app.rounds.promotion import promote
from app.settings import Settings
from app.versions.manifest import VersionInfo, write_manifest
from tests.factories import rows


@dataclass
class Installation:
    """A project with versions 1 to 9: 9 is current, 8 rejected, 3 an adapter's base, the others retired."""

    settings: Settings
    factory: sessionmaker[Session]
    ids: dict[int, UUID]
    project_id: UUID

    def left(self) -> set[int]:
        """Numbers of the versions that have their files."""
        return {number for number, id_ in self.ids.items() if (self.settings.versions_dir / str(id_)).is_dir()}

    def change(self, number: int, **columns: object) -> None:
        """Change a version's row."""
        with transaction(self.factory) as db:
            db.execute(update(Version).where(Version.id == self.ids[number]).values(**columns))


@pytest.fixture
def installed(fresh_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setattr(prune, "SETTLING_SECONDS", 0.0)
    factory = make_session_factory(fresh_engine)
    url = fresh_engine.url.render_as_string(hide_password=False)
    settings = Settings(data=tmp_path / "data", database_url=url)
    old = utcnow() - timedelta(days=3)
    ids = {}
    with transaction(factory) as db:
        project = rows.make_project(db, slug="tone")
        for number in range(1, 10):
            state = {8: "rejected", 9: "current"}.get(number, "retired")
            version = rows.make_version(db, project, number=number, state=state, created_at=old, retired_at=old)
            folder = settings.versions_dir / str(version.id)
            folder.mkdir(parents=True)
            (folder / "model.safetensors").write_bytes(bytes(1000 * number))
            VersionInfo(kind="full", context_length=512).write(folder)
            version.digest = write_manifest(folder)
            ids[number] = version.id
        db.get_one(Version, ids[7]).base_id = ids[3]
        project_id = project.id
    return Installation(settings, factory, ids, project_id)


def test_what_is_needed_stays_and_the_rest_goes_on_record(installed: Installation) -> None:
    with transaction(installed.factory) as db:
        db.add(Round(project_id=installed.project_id, number=1, trigger="button", state="failed",
                     parent_id=installed.ids[4], reference_id=installed.ids[2]))  # fmt: skip
        found = list(prune.prunable(db, installed.settings, keep=1))
    # 1 is the first, 7 the roll-back with its base 3, 8 the newest of those that are over, 2 and 4 the failed round's.
    assert [item.name for item in found] == ["tone, version 5 (retired)", "tone, version 6 (retired)"]
    assert found[0].bytes > 5000
    assert installed.left() == set(range(1, 10)), "looking removed something"

    gone = prune.prune(installed.factory, installed.settings, keep=1)
    assert [item.path for item in gone] == [item.path for item in found]
    assert installed.left() == {1, 2, 3, 4, 7, 8, 9}
    assert not list(installed.settings.versions_dir.glob(".*"))
    assert prune.prune(installed.factory, installed.settings, keep=1) == []
    with transaction(installed.factory) as db:
        written = set(db.scalars(select(AuditEntry.subject).where(AuditEntry.action == "version.prune")))
        assert written == {f"version:{installed.ids[number]}" for number in (5, 6)}
        assert db.get_one(Version, installed.ids[5]).state == "retired"
        with pytest.raises(VersionDamagedError, match="missing"):
            promote(db, db.get_one(Version, installed.ids[5]), actor=None, settings=installed.settings)
        promote(db, db.get_one(Version, installed.ids[7]), actor=None, settings=installed.settings)


def test_the_newest_and_what_was_in_use_today_stay(installed: Installation) -> None:
    with transaction(installed.factory) as db:
        assert [item.version for item in prune.prunable(db, installed.settings, keep=4)] == [
            installed.ids[number] for number in (2, 4)
        ]
        assert list(prune.prunable(db, installed.settings, keep=99)) == []
    for number in range(2, 9):
        installed.change(number, retired_at=utcnow())
    with transaction(installed.factory) as db:
        assert list(prune.prunable(db, installed.settings, keep=0)) == []


def test_checkpoints_of_cancelled_rounds_and_what_was_set_aside(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, long_ago = installed.settings.data, utcnow() - timedelta(days=2)
    with transaction(installed.factory) as db:
        ended = {
            state: Round(
                project_id=installed.project_id, number=number, trigger="button", state=state, finished_at=long_ago
            )
            for number, state in enumerate(("cancelled", "failed"), start=1)
        }
        db.add_all(ended.values())
        db.flush()
        folders = {state: installed.settings.jobs_dir / str(round_.id) for state, round_ in ended.items()}
    for folder in folders.values():
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("")
    aside = data / "versions.before-restore-20261101T000000"
    aside.mkdir()
    left = installed.settings.versions_dir / ".pruned-x"
    left.mkdir()
    monkeypatch.setattr(prune, "AT_REST", timedelta(0))
    prune.prune(installed.factory, installed.settings, keep=99)
    assert not aside.exists()
    assert not left.exists()
    assert sorted(path.name for path in folders["cancelled"].iterdir()) == ["metrics.jsonl"]
    assert (folders["failed"] / "checkpoints").exists()
    assert installed.left() == set(range(1, 10))


def test_a_version_that_became_current_meanwhile_gets_its_files_back(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def promoted(_seconds: float) -> None:
        installed.change(9, state="retired")
        installed.change(5, state="current")

    monkeypatch.setattr(prune.time, "sleep", promoted)
    gone = prune.prune(installed.factory, installed.settings, keep=1)
    assert installed.ids[5] not in {item.version for item in gone}
    assert 5 in installed.left()
    assert 6 not in installed.left()


def test_pruned_files_come_back_from_an_older_backup_and_are_not_missed_in_a_newer(
    installed: Installation, tmp_path: Path
) -> None:
    older, newer = tmp_path / "older.tar.gz", tmp_path / "newer.tar.gz"
    backup.back_up(installed.settings, older)
    prune.prune(installed.factory, installed.settings, keep=1)
    backup.back_up(installed.settings, newer)
    assert backup.restore_versions(installed.settings, newer) == backup.PutBack([], [], None)
    shutil.rmtree(installed.settings.versions_dir / str(installed.ids[9]))
    assert backup.restore_versions(installed.settings, newer).put_back == ["tone, version 9"]
    done = backup.restore_versions(installed.settings, older)
    assert "tone, version 5" in done.put_back
    assert installed.left() == set(range(1, 10))
