"""Which version answers, for a model's name as an OpenAI client gives it."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

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

    engine_model: str
    name: str
    """``project@version``, with the version that answers spelled out."""
    sampling: dict[str, Any]


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
    if project is not None:
        membership = db.get(Membership, (project.id, user_id))
        role = "admin" if is_site_admin else membership.role if membership else None
    if found is None or project is None or role is None:
        raise ModelNotFoundError(
            f"There is no model {model!r}.", mend="Name a project of yours, as in `demo`, or a version, as in `demo@2`."
        )
    if found["number"] is None:
        return _target(project, versions.current(db, project), "has no version yet: its base model is being imported")
    if role != "admin":
        raise ForbiddenError(
            "Only admins of a project may ask one of its versions by number.",
            mend=f"Use {project.slug!r}: its current version answers.",
        )
    version = versions.by_number(db, project, int(found["number"]))
    return _target(project, version, f"has no version {found['number']}")


def _target(project: Project, version: Version | None, otherwise: str) -> Target:
    if version is None:
        raise ModelNotFoundError(
            f"The project {project.slug!r} {otherwise}.", mend="Look at its versions page for what there is."
        )
    return Target(str(version.id), f"{project.slug}@{version.number}", dict(project.sampling))
