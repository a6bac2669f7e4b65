"""Whole situations for tests of rounds: a project with a model and votes, version directories, a round in hand."""

from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.tables import Project, Version
from app.rounds import service
from app.rounds.leases import Claimed
from app.settings import Settings
from app.versions.manifest import VersionInfo, write_manifest
from tests.factories.rows import make_comparison, make_project, make_user, make_version, make_vote


def write_version(directory: Path, *, content: str = "weights", context_length: int = 512) -> str:
    """A version directory that verifies (its model file is text); returns its digest."""
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_text(content)
    VersionInfo(kind="full", context_length=context_length).write(directory)
    return write_manifest(directory)


def make_loop(
    db: Session, *, votes: int = 10, held_out_votes: int = 0, versions_dir: Path | None = None, **columns: object
) -> tuple[Project, Version]:
    """A project with a current version (and its directory, if ``versions_dir`` is given) and counted votes."""
    project = make_project(db, **columns)
    version = make_version(db, project, number=1)
    if versions_dir is not None:
        version.digest = write_version(versions_dir / str(version.id), content=str(version.id))
        db.flush()
    cast_votes(db, project, version, votes)
    cast_votes(db, project, version, held_out_votes, held_out=True)
    return project, version


def cast_votes(db: Session, project: Project, version: Version, count: int, *, held_out: bool = False) -> None:
    """``count`` votes for 'a', each on a pair of its own."""
    reviewer = make_user(db)
    for _ in range(count):
        pair = make_comparison(db, project, version=version, held_out=held_out)
        make_vote(db, pair, choice="a", reviewer=reviewer)


def claim(db: Session, settings: Settings) -> Claimed:
    """Claim a round that must be there."""
    claimed = service.claim(db, settings=settings)
    assert claimed is not None
    return claimed


def move_on(db: Session, round_id: UUID, token: UUID, *states: str) -> None:
    """Advance a queued round through ``states``."""
    before = "queued"
    for state in states:
        service.advance(db, round_id, token, before, state)  # type: ignore[arg-type]
        before = state
