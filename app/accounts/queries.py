"""Reads: people, their projects, their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.accounts.principal import Principal
from app.db.base import utcnow
from app.db.tables import ApiToken, Membership, Project, User


@dataclass(frozen=True, slots=True)
class ProjectLink:
    """A project as the switcher shows it."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class UserLine:
    """A person as the list of users shows them."""

    user: User
    projects: int
    tokens: int
    """Those that still work."""


def projects_of(db: Session, principal: Principal, limit: int = 100) -> Sequence[ProjectLink]:
    """The projects a person may enter, by name: their own, or all of them for a site admin."""
    query = select(Project.slug, Project.name).where(Project.archived_at.is_(None))
    if not principal.is_site_admin:
        query = query.join(Membership, Membership.project_id == Project.id).where(
            Membership.user_id == principal.user_id
        )
    rows = db.execute(query.order_by(func.lower(Project.name), Project.slug).limit(limit)).all()
    return [ProjectLink(slug=row.slug, name=row.name) for row in rows]


def live_tokens(user_id: UUID | InstrumentedAttribute[UUID]) -> Select[ApiToken]:
    """A person's tokens that still work."""
    return select(ApiToken).where(
        ApiToken.user_id == user_id,
        ApiToken.revoked_at.is_(None),
        func.coalesce(ApiToken.expires_at > utcnow(), True),
    )


def tokens_of(db: Session, user_id: UUID) -> Sequence[ApiToken]:
    """The same, the newest first."""
    return db.scalars(live_tokens(user_id).order_by(ApiToken.id.desc())).all()


def users_page(db: Session, *, page: int, per_page: int = 50) -> tuple[Sequence[UserLine], int]:
    """A page of all people, by email, and how many people there are. ``page`` counts from 1."""
    count = select(func.count()).where(Membership.user_id == User.id).scalar_subquery()
    tokens = live_tokens(User.id).with_only_columns(func.count()).scalar_subquery()
    query = select(User, count, tokens).order_by(User.email).limit(per_page).offset((page - 1) * per_page)
    total = db.scalar(select(func.count()).select_from(User)) or 0
    return [UserLine(user, projects, living) for user, projects, living in db.execute(query)], total
