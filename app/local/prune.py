"""``hone prune``: removes what an installation keeps on disk and needs no more; nothing in the database is lost.

Files of versions that are neither used nor likely to be used again are the bulk of it. Their rows, figures and votes
stay; the audit log says that the files are gone, and a promotion is refused as for any version whose files are missing.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.session import SessionFactory, transaction
from app.db.tables import Project, Round, Version
from app.journal import audit
from app.rounds.promotion import lock_versions
from app.settings import Settings
from app.versions.files import directory
from app.versions.queries import first, predecessor

ACTION = "version.prune"
AWAY = ".pruned-"
"""Before the name of a folder that is about to go."""
AT_REST = timedelta(days=1)
"""What was in use so lately is left: somebody may still go back to it, or be reading it."""
SETTLING_SECONDS = 5.0
"""Longer than a promotion takes from its last look at the files to its commit."""
_ACTIVE_OR_RETRYABLE = ("queued", "preparing", "training", "publishing", "failed")


@dataclass(frozen=True)
class Item:
    """Something on disk that may go."""

    name: str
    path: Path
    bytes: int
    version: UUID | None = None
    """Whose files they are, if a version's."""


def prunable(db: Session, settings: Settings, *, keep: int) -> Iterator[Item]:
    """What may go now: files of versions, what restores set aside, and checkpoints of rounds that were cancelled."""
    for project in db.scalars(select(Project).order_by(Project.slug)):
        for version in _unneeded(db, project, keep=keep):
            folder = directory(settings.versions_dir, version.id)
            if folder.is_dir():
                yield _item(f"{project.slug}, version {version.number} ({version.state})", folder, version.id)
    for folder in sorted(settings.versions_dir.glob(f"{AWAY}*")):
        yield _item("left by a prune that was interrupted", folder)
    for folder in sorted(settings.data.glob("versions.before-restore-*")):
        if time.time() - folder.stat().st_mtime > AT_REST.total_seconds():
            yield _item("versions that a restore set aside", folder)
    cancelled = (
        select(Round.id, Round.number, Project.slug)
        .join(Project, Project.id == Round.project_id)
        .where(Round.state == "cancelled", Round.finished_at < utcnow() - AT_REST)
        .order_by(Project.slug, Round.number)
    )
    for row in db.execute(cancelled):
        folder = settings.jobs_dir / str(row.id) / "checkpoints"
        if folder.is_dir():
            yield _item(f"{row.slug}, checkpoints of round {row.number} (cancelled)", folder)


def prune(factory: SessionFactory, settings: Settings, *, keep: int) -> list[Item]:
    """Remove what ``prunable`` finds; returns what is gone.

    Folders of versions are first moved out of the way, in the transaction that writes it down, while no promotion can
    commit; one that had looked at its files just before commits after it, and gets them back.

    Raises:
        OSError: something cannot be removed; the next prune goes on.
    """
    away: dict[Item, Path] = {}
    with transaction(factory) as db:
        for project in db.scalars(select(Project).order_by(Project.id)):
            lock_versions(db, project)
        items = list(prunable(db, settings, keep=keep))
        for item in items:
            if item.version is None:
                continue
            away[item] = item.path.rename(item.path.with_name(f"{AWAY}{item.path.name}"))
            audit.record(
                db,
                actor_id=None,
                project_id=db.get_one(Version, item.version).project_id,
                action=ACTION,
                subject=f"version:{item.version}",
                bytes=item.bytes,
            )
    if away:
        time.sleep(SETTLING_SECONDS)
    with transaction(factory) as db:
        chosen = [item.version for item in away]
        back = set(db.scalars(select(Version.id).where(Version.id.in_(chosen), Version.state == "current")))
    for item in items:
        if item.version in back:
            away[item].rename(item.path)
        else:
            shutil.rmtree(away.get(item, item.path))
    return [item for item in items if item.version not in back]


def _unneeded(db: Session, project: Project, *, keep: int) -> Sequence[Version]:
    """Retired and rejected versions of a project, but for the newest ``keep`` and those that others stand on."""
    versions = db.scalars(select(Version).where(Version.project_id == project.id).order_by(Version.number.desc())).all()
    over = [version for version in versions if version.state in ("retired", "rejected")]
    needed = {version.id for version in versions if version not in over} | {version.id for version in over[:keep]}
    needed |= {version.id for version in (first(db, project), predecessor(db, project)) if version is not None}
    rounds = select(Round.parent_id, Round.reference_id).where(
        Round.project_id == project.id, or_(Round.version_id.in_(needed), Round.state.in_(_ACTIVE_OR_RETRYABLE))
    )
    needed |= {id_ for row in db.execute(rounds) for id_ in row if id_ is not None}
    bases = {version.id: version.base_id for version in versions}
    needed |= {base for id_ in needed if (base := bases.get(id_)) is not None}
    at_rest = select(Version.id).where(
        Version.project_id == project.id,
        func.coalesce(Version.retired_at, Version.created_at) < utcnow() - AT_REST,
    )
    resting = set(db.scalars(at_rest))
    return [version for version in reversed(over) if version.id in resting - needed]


def _item(name: str, folder: Path, version: UUID | None = None) -> Item:
    return Item(name, folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), version)
