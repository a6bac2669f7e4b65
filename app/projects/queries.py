"""Reading projects and their members."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.db.tables import Membership, Project, User
from app.errors import NotFoundError
from app.language import _


@dataclass(frozen=True, slots=True)
class Mine:
    """A project as its member sees it in a list."""

    project: Project
    role: str


@dataclass(frozen=True, slots=True)
class Member:
    """A person with the role they have in a project."""

    user: User
    role: str


def mine(
    db: Session,
    *,
    user_id: UUID,
    is_site_admin: bool,
    archived: bool = False,
    after: UUID | None = None,
    limit: int = 200,
) -> list[Mine]:
    """Projects this person takes part in, newest first; a site admin takes part in all, as admin.

    Args:
        archived: those that are put aside, in place of the others.
        after: continue below this project (a cursor).
    """
    membership = (Membership.project_id == Project.id) & (Membership.user_id == user_id)
    query = select(Project, Membership.role).outerjoin(Membership, membership)
    query = query.where(Project.archived_at.is_not(None) if archived else Project.archived_at.is_(None))
    if not is_site_admin:
        query = query.where(Membership.role.is_not(None))
    if after is not None:
        query = query.where(Project.id < after)
    rows = db.execute(query.order_by(Project.id.desc()).limit(limit)).all()
    return [Mine(project, "admin" if is_site_admin else role or "reviewer") for project, role in rows]


def member(db: Session, project: Project, user_id: UUID) -> Member:
    """Somebody in the project. Raises NotFoundError for anybody else."""
    found = db.execute(
        select(User, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.project_id == project.id, User.id == user_id)
    ).one_or_none()
    if found is None:
        raise NotFoundError(
            _("%(name)s has no member %(user_id)s.", name=project.name, user_id=user_id),
            mend=_("Look in the list of members."),
        )
    user, role = found
    return Member(user, role)


def members(
    db: Session, project: Project, *, after: tuple[str, str] | None = None, limit: int | None = None
) -> list[Member]:
    """Everybody in the project: admins first, then by address.

    Args:
        after: role and address of somebody: only those who come behind them.
        limit: no more than so many.
    """
    query = (
        select(User, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.project_id == project.id)
        .order_by(Membership.role, User.email)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(Membership.role, User.email) > tuple_(*after))
    return [Member(user, role) for user, role in db.execute(query)]
