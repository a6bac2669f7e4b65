"""Reading versions: the current one, the first one, the lineage."""

import re
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Project, Round, Version


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version with the numbers of what it came from."""

    version: Version
    parent_number: int | None
    round_number: int | None
    """The round that made it."""


def current(db: Session, project: Project) -> Version | None:
    """The version that answers and is sampled; None until the base model is imported."""
    return db.scalar(select(Version).where(Version.project_id == project.id, Version.state == "current"))


def first(db: Session, project: Project) -> Version | None:
    """Version 1: the base model as it was imported."""
    return db.scalar(select(Version).where(Version.project_id == project.id).order_by(Version.number).limit(1))


def get(db: Session, version_id: UUID) -> Version | None:
    """A version by its id, of whichever project."""
    return db.get(Version, version_id)


def by_number(db: Session, project: Project, number: str) -> Version | None:
    """A project's version by its number as it stands in an address."""
    wanted = number_of(number)
    query = select(Version).where(Version.project_id == project.id, Version.number == wanted)
    return None if wanted is None else db.scalar(query)


def number_of(text: str) -> int | None:
    """The number of a round or version; None where the text is none that one can have."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def lineage(db: Session, project: Project) -> list[Lineage]:
    """All versions of a project, newest first, with parents and rounds."""
    versions = db.scalars(select(Version).where(Version.project_id == project.id).order_by(Version.number.desc())).all()
    numbers = {version.id: version.number for version in versions}
    made_by = select(Round.version_id, Round.number).where(
        Round.project_id == project.id, Round.version_id.is_not(None)
    )
    rounds = {row.version_id: row.number for row in db.execute(made_by)}
    return [
        Lineage(version, numbers.get(version.parent_id) if version.parent_id else None, rounds.get(version.id))
        for version in versions
    ]


def predecessor(db: Session, project: Project) -> Version | None:
    """Where a roll-back leads: the latest version before the current one that was current once."""
    now = current(db, project)
    if now is None:
        return None
    return db.scalar(
        select(Version)
        .where(
            Version.project_id == project.id,
            Version.state == "retired",
            Version.number < now.number,
        )
        .order_by(Version.number.desc())
        .limit(1)
    )
