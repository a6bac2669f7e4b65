"""Who is calling, and in which role."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from app.db.tables import Project

Role = Literal["admin", "reviewer"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is signed in, or a program with a token of theirs."""

    user_id: UUID
    email: str
    name: str
    is_site_admin: bool
    via: Literal["session", "token"]
    scopes: frozenset[str] | None = None
    """What a token may do; None for a session, which may do whatever its user may."""
    token_id: UUID | None = None
    """The token that was used; None for a session."""
    csrf_token: str | None = None
    """The session's; None for a token, which no browser sends by itself."""

    @property
    def label(self) -> str:
        """What to call them on a page."""
        return self.name or self.email

    def allows(self, scope: str) -> bool:
        """Whether the key that was used reaches as far as ``scope``."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True, slots=True)
class ProjectContext:
    """Somebody in a project. Site admins are admins of every project."""

    principal: Principal
    project: Project
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether they may change the project."""
        return self.role == "admin"
