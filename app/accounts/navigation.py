"""What every page's header shows of the person: their projects, the one they are in, and their role there."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from app.accounts import queries
from app.accounts.principal import Principal, ProjectContext


def page_context(request: Request, db: Session) -> Mapping[str, Any]:
    """``nav`` for ``base.html``: ``projects`` (slug, name), ``current`` project and ``role`` in it."""
    principal: Principal | None = getattr(request.state, "principal", None)
    context: ProjectContext | None = getattr(request.state, "project_context", None)
    projects = queries.projects_of(db, principal) if principal is not None else []
    return {
        "nav": SimpleNamespace(
            projects=projects,
            current=context.project if context else None,
            role=context.role if context else None,
        )
    }
