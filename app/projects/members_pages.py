"""Who takes part in a project."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.errors import DomainError
from app.language import _, listed, sentence
from app.projects import queries, service
from app.projects.schemas import Role
from app.web.deps import Db, Render, see_other

router = APIRouter(prefix="/p/{slug}/members", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]


@router.get("")
def members(here: Here, db: Db, render: Render) -> HTMLResponse:
    """Everybody, with what an admin can change."""
    return _page(render, db, here)


@router.post("")
def add(
    here: Here,
    request: Request,
    db: Db,
    render: Render,
    email: Annotated[str, Form()] = "",
    role: Annotated[Role, Form()] = "reviewer",
) -> Response:
    """Add somebody who has an account."""
    try:
        user = service.person(db, email)
        service.set_member(db, here.project, user, role, actor=here.principal.user_id)
    except DomainError as error:
        return _page(
            render,
            db,
            here,
            status=422,
            email=email,
            role=role,
            problem=listed((sentence(error.message), error.mend), " "),
        )
    told = (
        _("%(email)s is an admin of this project.", email=user.email)
        if role == "admin"
        else _("%(email)s is a reviewer of this project.", email=user.email)
    )
    return _back(request, here, told)


@router.post("/{user_id}/role")
def change_role(here: Here, request: Request, db: Db, user_id: UUID, role: Annotated[Role, Form()]) -> Response:
    """Make somebody an admin or a reviewer."""
    user = queries.member(db, here.project, user_id).user
    service.set_member(db, here.project, user, role, actor=here.principal.user_id)
    told = (
        _("%(email)s is an admin now.", email=user.email)
        if role == "admin"
        else _("%(email)s is a reviewer now.", email=user.email)
    )
    return _back(request, here, told)


@router.post("/{user_id}/remove")
def remove(here: Here, request: Request, db: Db, user_id: UUID) -> Response:
    """End somebody's membership."""
    user = queries.member(db, here.project, user_id).user
    service.remove_member(db, here.project, user, actor=here.principal.user_id)
    return _back(request, here, _("%(email)s was removed. Their votes stay.", email=user.email))


def _page(
    render: Render, db: Db, here: ProjectContext, *, status: int = 200, email: str = "", role: str = "reviewer",
    problem: str = "",
) -> HTMLResponse:  # fmt: skip
    return render(
        "projects/members.html",
        status=status,
        project=here.project,
        members=queries.members(db, here.project),
        me=here.principal,
        email=email,
        role=role,
        problem=problem,
    )


def _back(request: Request, here: ProjectContext, told: str) -> Response:
    # Somebody who has just removed themselves has nothing more to see here.
    return see_other(request, f"/p/{here.project.slug}/members", flash=told)
