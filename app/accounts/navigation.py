"""What every page's header shows of the person: their projects, the one they are in, and their role there."""

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from app.accounts import access, identity, queries
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


_IN_PROJECT = re.compile(r"/p/([^/]+)(/|$)")


def lost_context(request: Request, db: Session) -> Mapping[str, Any]:
    """The same for an address at which there is nothing, or nothing for them: ``nav`` in plain values.

    Its project is named only to those who may see that: to others it is as if there were none.
    """
    principal = identity.from_cookie(request, db)
    if principal is None:
        return {}
    named = _IN_PROJECT.match(request.url.path)
    context = access.role_in(db, principal, named[1]) if named else None
    current = context and SimpleNamespace(
        slug=context.project.slug, name=context.project.name, archived_at=context.project.archived_at
    )
    projects = queries.projects_of(db, principal)
    return {"nav": SimpleNamespace(projects=projects, current=current, role=context.role if context else None)}
