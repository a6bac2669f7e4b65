"""Making and changing projects, and who belongs to them."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Membership, Project, User, Version
from app.errors import ConflictError, NotFoundError
from app.journal import audit, outbox
from app.journal.queues import REFILL
from app.language import _
from app.projects import guidelines, schedule
from app.projects.aggregation import aggregation_of
from app.projects.queue import queue_of
from app.projects.refilling import gate_of, refilling_of
from app.projects.reviewing import reviewing_of
from app.projects.schemas import ProjectEdit, ProjectIn, Role
from app.projects.validation import FieldError, ProjectInvalidError, draft
from app.rounds.spec import SpecError, with_stored_machines

_SLUG_TRIES = 100


class LastAdminError(ConflictError):
    """A project without an admin could not be governed any more."""

    code = "last_admin"
    title = _("The last admin stays")


class MemberAlreadyError(ConflictError):
    """Somebody is to be added who takes part already; their role is not changed by that."""

    code = "member_already"
    title = _("A member already")


class UnknownPersonError(NotFoundError):
    """No account has this address."""

    code = "unknown_person"
    title = _("No such account")


class BaseModelFixedError(ConflictError):
    """Version 1 exists: every later version stands on it."""

    code = "base_model_fixed"
    title = _("The base model cannot change any more")


def create_project(
    db: Session,
    *,
    name: str,
    base_model: str,
    slug: str | None = None,
    guidelines: str = "",
    sampling: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    created_by: UUID | None = None,
    **settings: Any,
) -> Project:
    """A new project; ``created_by`` becomes its first admin. Version 1 is imported by a round of its own.

    Args:
        settings: any other field of ``ProjectIn``.

    Raises:
        ProjectInvalidError: one or more values cannot be used, or the slug is taken; with all of them.
    """
    values: dict[str, Any] = {"name": name, "base_model": base_model, "slug": slug, "guidelines": guidelines}
    checked = draft(ProjectIn, values | {"sampling": sampling or {}, "training": training or {}} | settings)
    project = Project(
        **checked.model_dump(exclude={"slug"}),
        slug="",
        created_by=created_by,
        next_round_at=_due(checked.round_schedule),
    )
    _insert(db, project, wanted=checked.slug)
    if created_by is not None:
        db.add(Membership(project_id=project.id, user_id=created_by, role="admin"))
    db.flush()
    _record(db, project, created_by, "project.create", name=project.name)
    return project


def hold(db: Session, project: Project) -> None:
    """Have the project as it is stored now; nobody else changes its settings until this transaction ends."""
    db.refresh(project, with_for_update=True)


def update_project(
    db: Session, project: Project, *, actor: UUID | None = None, by_site_admin: bool = False, **changes: Any
) -> Project:
    """Change some settings; those not named stay. What is a group of settings is replaced whole.

    Where the base model lies and the machines that training runs on are for site admins to say; when others change
    training settings, those stay.

    Raises:
        ProjectInvalidError: with every error; nothing is changed.
        BaseModelFixedError: another base model, but version 1 was already made from this one.
    """
    current, checked = _checked(db, project, by_site_admin=by_site_admin, changes=changes)
    _write(db, project, current, checked, actor=actor)
    return project


def check_changes(db: Session, project: Project, *, by_site_admin: bool = False, **changes: Any) -> None:
    """Whether ``update_project`` would take these changes, for whoever cannot make them yet. Raises what it raises."""
    _checked(db, project, by_site_admin=by_site_admin, changes=changes)


def _checked(
    db: Session, project: Project, *, by_site_admin: bool, changes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings as they are, and as they would be."""
    current: dict[str, Any] = {field: getattr(project, field) for field in ProjectEdit.model_fields}
    current["reviewing"] = reviewing_of(project.reviewing).model_dump()
    current["refilling"] = refilling_of(project.refilling).model_dump()
    current["gate"] = gate_of(project.gate).model_dump()
    current["queue"] = queue_of(project.queue).model_dump()
    current["aggregation"] = aggregation_of(project.aggregation).model_dump()
    unknown = sorted(changes.keys() - current.keys())
    if unknown:
        raise ProjectInvalidError(
            [FieldError(field, _("there is no such setting, or it cannot be changed")) for field in unknown]
        )
    if isinstance(changes.get("training"), Mapping) and not by_site_admin:
        try:
            changes["training"] = with_stored_machines(changes["training"], project.training)
        except SpecError as error:
            raise ProjectInvalidError([FieldError(f"training.{error.field}", error.message)]) from error
    moved = changes.get("base_model", project.base_model) != project.base_model
    if moved and has_version(db, project):
        raise BaseModelFixedError(
            _(
                "version 1 was made from %(base_model)s, not from %(changes)s",
                base_model=project.base_model,
                changes=changes["base_model"],
            ),
            mend=_("Make a new project for another base model."),
        )
    if moved and not by_site_admin:  # a path would tell what lies on the server, and what it names becomes a version
        raise ProjectInvalidError([FieldError("base_model", _("only site admins say where the base model lies"))])
    return current, draft(ProjectEdit, current | changes, check_base=moved).model_dump()


def _write(
    db: Session, project: Project, current: Mapping[str, Any], checked: Mapping[str, Any], *, actor: UUID | None
) -> None:
    """Store what differs, and let follow what follows from it."""
    changed = {field: value for field, value in checked.items() if value != current[field]}
    for field, value in changed.items():
        setattr(project, field, value)
    if "round_schedule" in changed:
        project.next_round_at = _due(project.round_schedule)
    db.flush()
    if changed.keys() & {"guidelines", "reviewing"}:
        guidelines.keep(db, project, current, actor=actor)
    if checked["reviewing"]["mode"] != current["reviewing"]["mode"]:
        outbox.enqueue(db, REFILL, str(project.id))  # what waits in the queue is of the other mode
    if changed:
        _record(db, project, actor, "project.update", changed=sorted(changed))


def has_version(db: Session, project: Project) -> bool:
    """Whether version 1 has been made."""
    return bool(db.scalar(select(exists().where(Version.project_id == project.id))))


def person(db: Session, email: str) -> User:
    """The active account with this address, however it is written.

    Raises:
        UnknownPersonError: there is none.
    """
    address = email.strip().lower()
    user = db.scalar(select(User).where(User.email == address, User.is_active))
    if user is None:
        raise UnknownPersonError(
            _("no account has the address %(address)s", address=repr(address)),
            mend=_("Check the spelling, or have a site admin make the account first."),
        )
    return user


def add_member(db: Session, project: Project, user: User, role: Role, *, actor: UUID | None = None) -> Membership:
    """Let somebody take part who does not yet.

    Raises:
        MemberAlreadyError: they do, as whatever.
    """
    _lock(db, project)
    member = db.get(Membership, (project.id, user.id), populate_existing=True)
    if member is not None:
        told = (
            _("this project has %(email)s already, as an admin", email=user.email)
            if member.role == "admin"
            else _("this project has %(email)s already, as a reviewer", email=user.email)
        )
        raise MemberAlreadyError(told, mend=_("Nothing was changed; the list below has a button for another role."))
    return set_member(db, project, user, role, actor=actor)


def set_member(db: Session, project: Project, user: User, role: Role, *, actor: UUID | None = None) -> Membership:
    """Let ``user`` take part as ``role``, or change the role.

    Raises:
        LastAdminError: the project's only admin would become a reviewer.
    """
    _lock(db, project)
    member = db.get(Membership, (project.id, user.id), populate_existing=True)
    if member is None:
        member = Membership(project_id=project.id, user_id=user.id, role=role)
        db.add(member)
    elif member.role != role:
        _keep_an_admin(db, project, member)
        member.role = role
    else:
        return member
    db.flush()
    _record(db, project, actor, "member.set", user=str(user.id), role=role)
    return member


def remove_member(db: Session, project: Project, user: User, *, actor: UUID | None = None) -> None:
    """End a membership. Votes of the person stay.

    Raises:
        NotFoundError: the person is no member.
        LastAdminError: the project would have no admin left.
    """
    _lock(db, project)
    member = db.get(Membership, (project.id, user.id), populate_existing=True)
    if member is None:
        raise NotFoundError(
            _("%(email)s is not a member of %(name)s", email=user.email, name=project.name),
            mend=_("Reload the list of members."),
        )
    _keep_an_admin(db, project, member)
    db.delete(member)
    db.flush()
    _record(db, project, actor, "member.remove", user=str(user.id))


def _keep_an_admin(db: Session, project: Project, leaving: Membership) -> None:
    if leaving.role != "admin":
        return
    admins = select(func.count()).where(Membership.project_id == project.id, Membership.role == "admin")
    if db.scalar(admins) == 1:
        raise LastAdminError(
            _("%(name)s has one admin, and this is the one", name=project.name),
            mend=_("Make somebody else an admin first, then do this."),
        )


def _lock(db: Session, project: Project) -> None:
    """Members of a project change one at a time, so that two admins cannot remove each other at once."""
    db.execute(select(Project.id).where(Project.id == project.id).with_for_update())


def _insert(db: Session, project: Project, *, wanted: str | None) -> None:
    """Flush the project under ``wanted``, or under the first free slug made of its name."""
    stem = wanted or _slug(project.name)
    for number in range(1, _SLUG_TRIES + 1):
        project.slug = stem if number == 1 else f"{stem[:58]}-{number}"
        if not db.scalar(select(exists().where(Project.slug == project.slug))):
            try:
                with db.begin_nested():
                    db.add(project)
            except IntegrityError as error:
                if "uq_projects_slug" not in str(error.orig):
                    raise
            else:
                return
        if wanted is not None:
            raise ProjectInvalidError(
                [FieldError("slug", _("%(wanted)s is taken by another project; choose another", wanted=repr(wanted)))]
            )
    raise ProjectInvalidError(
        [
            FieldError(
                "slug",
                _("%(stem)s and %(slug_tries)s more like it are taken", stem=repr(stem), slug_tries=_SLUG_TRIES - 1),
            )
        ]
    )


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "project"


def _due(crontab: str | None) -> Any:
    return None if crontab is None else schedule.next_time(crontab, utcnow())


def _record(db: Session, project: Project, actor: UUID | None, action: str, **data: Any) -> None:
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=f"project:{project.id}", **data)
