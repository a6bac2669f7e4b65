"""Which version answers, for a model's name as an OpenAI client gives it."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import logs
from app.db.tables import Membership, Project, Version
from app.errors import ForbiddenError, NotFoundError
from app.versions import queries as versions

MODEL_NAME = re.compile(r"^(?P<slug>[a-z0-9][a-z0-9-]{0,62})(?:@(?P<number>[1-9][0-9]{0,8}))?$")


class ModelNotFoundError(NotFoundError):
    """No such project or version, or none that the caller may see."""

    code = "model_not_found"
    title = "No such model"


@dataclass(frozen=True, slots=True)
class Target:
    """The version that answers, and how its project samples by default."""

    project_id: UUID
    version_id: UUID
    name: str
    """``project@version``, with the version that answers spelled out."""
    sampling: dict[str, Any]
    blind: bool
    """For somebody who may be asked to judge its answers without knowing that they are its own."""

    @property
    def engine_model(self) -> str:
        """What the engine calls it."""
        return str(self.version_id)


@dataclass(frozen=True, slots=True)
class Named:
    """A name that a caller may use as ``model``."""

    name: str
    since: datetime


def resolve(db: Session, model: str, *, user_id: UUID, is_site_admin: bool) -> Target:
    """The version behind ``project`` (its current one, for members) or ``project@version`` (for its admins: a
    reviewer who can ask one version by name could recognise its answers in a comparison).

    Raises:
        ModelNotFoundError: nothing of that name that the caller may see.
        ForbiddenError: a reviewer asked for a version by its number.
    """
    found = MODEL_NAME.match(model)
    project = db.scalar(select(Project).where(Project.slug == found["slug"])) if found else None
    role = None
    if project is not None and project.archived_at is None:
        membership = db.get(Membership, (project.id, user_id))
        role = "admin" if is_site_admin else membership.role if membership else None
    if found is None or project is None or role is None:
        raise ModelNotFoundError(
            f"There is no model {model!r}.", mend="Name a project of yours, as in `demo`, or a version, as in `demo@2`."
        )
    logs.also(project=str(project.id), slug=project.slug)
    if found["number"] is None:
        otherwise = "has no version yet: its base model is being imported"
        return _target(project, versions.current(db, project), otherwise, blind=role != "admin")
    if role != "admin":
        raise ForbiddenError(
            "Only admins of a project may ask one of its versions by number.",
            mend=f"Use {project.slug!r}: its current version answers.",
        )
    version = versions.by_number(db, project, found["number"])
    return _target(project, version, f"has no version {found['number']}", blind=False)


def names(db: Session, *, user_id: UUID, is_site_admin: bool) -> list[Named]:
    """Every name the caller may use: projects that have a current version, and for their admins each version."""
    query = select(Project).where(Project.archived_at.is_(None)).order_by(Project.slug)
    roles: dict[UUID, str] = {}
    if not is_site_admin:
        mine = select(Membership.project_id, Membership.role).where(Membership.user_id == user_id)
        roles = {row.project_id: row.role for row in db.execute(mine)}
        query = query.where(Project.id.in_(roles))
    projects = db.scalars(query).all()
    by_project: dict[UUID, list[Version]] = {}
    for version in db.scalars(
        select(Version).where(Version.project_id.in_([project.id for project in projects])).order_by(Version.number)
    ):
        by_project.setdefault(version.project_id, []).append(version)
    found = []
    for project in projects:
        there = by_project.get(project.id, [])
        found += [Named(project.slug, version.created_at) for version in there if version.state == "current"]
        if is_site_admin or roles[project.id] == "admin":
            found += [Named(f"{project.slug}@{version.number}", version.created_at) for version in there]
    return found


def _target(project: Project, version: Version | None, otherwise: str, *, blind: bool) -> Target:
    if version is None:
        raise ModelNotFoundError(
            f"The project {project.slug!r} {otherwise}.", mend="Look at its versions page for what there is."
        )
    return Target(project.id, version.id, f"{project.slug}@{version.number}", dict(project.sampling), blind)
