"""Pages: what was done by whom, in a project and for site admins everywhere."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.insights import audit
from app.language import _
from app.web.deps import Db, Render

router = APIRouter(include_in_schema=False)

Kind = Literal[
    "", "project", "member", "user", "token", "reviewer", "check", "comparison", "adjudication",
    "round", "version", "preferences",
]  # fmt: skip
_PER_PAGE = 50
_KINDS = (
    ("", _("Everything")),
    ("project", _("Projects and their settings")),
    ("member", _("Members")),
    ("user", _("People and sign-ins")),
    ("token", _("API tokens")),
    ("reviewer", _("Reviewers")),
    ("check", _("Pairs with a known answer")),
    ("comparison", _("Pairs")),
    ("adjudication", _("Decisions about contradictions")),
    ("round", _("Rounds")),
    ("version", _("Versions")),
    ("preferences", _("Exports")),
)


@router.get("/p/{slug}/audit")
def in_project(
    here: Annotated[ProjectContext, access.admin()],
    db: Db,
    render: Render,
    kind: Kind = "",
    after: UUID | None = None,
) -> Response:
    """What was done in this project."""
    return _page(db, render, f"/p/{here.project.slug}/audit", here.project.id, kind, after, project=here.project)


@router.get("/admin/audit", dependencies=[access.site_admin()])
def everywhere(db: Db, render: Render, kind: Kind = "", after: UUID | None = None) -> Response:
    """What was done everywhere, sign-ins included."""
    return _page(db, render, "/admin/audit", None, kind, after, project=None)


def _page(
    db: Db, render: Render, at: str, project_id: UUID | None, kind: str, after: UUID | None, **context: Any
) -> Response:
    found = audit.lines(db, project_id=project_id, kind=kind or None, after=after, limit=_PER_PAGE + 1)
    shown = found[:_PER_PAGE]
    return render(
        "audit/page.html",
        at=at,
        kind=kind,
        kinds=_KINDS if project_id is None else [item for item in _KINDS if item[0] not in ("user", "token")],
        lines=shown,
        older=shown[-1].id if len(found) > _PER_PAGE else None,
        first=after is None,
        **context,
    )
