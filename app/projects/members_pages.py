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
        service.add_member(db, here.project, user, role, actor=here.principal.user_id)
    except DomainError as error:
        return _page(
            render,
            db,
            here,
            status=error.status if isinstance(error, service.MemberAlreadyError) else 422,
            email=email,
            role=role,
            problem=listed((sentence(error.message), error.mend), " "),
        )
    told = (
        _("%(email)s is an admin of this project.", email=user.email)
        if role == "admin"
        else _("%(email)s is a reviewer of this project.", email=user.email)
    )
    return see_other(request, _url(here), flash=told)


@router.post("/{user_id}/role")
def change_role(here: Here, request: Request, db: Db, user_id: UUID, role: Annotated[Role, Form()]) -> Response:
    """Make somebody an admin or a reviewer."""
    user = queries.member(db, here.project, user_id).user
    service.set_member(db, here.project, user, role, actor=here.principal.user_id)
    if role == "reviewer" and _leaves(here, user_id):
        told = _("You are a reviewer of this project now.")
        return see_other(request, f"/p/{here.project.slug}", flash=told)
    told = (
        _("%(email)s is an admin now.", email=user.email)
        if role == "admin"
        else _("%(email)s is a reviewer now.", email=user.email)
    )
    return see_other(request, _url(here), flash=told)


@router.post("/{user_id}/remove")
def remove(here: Here, request: Request, db: Db, user_id: UUID) -> Response:
    """End somebody's membership."""
    user = queries.member(db, here.project, user_id).user
    service.remove_member(db, here.project, user, actor=here.principal.user_id)
    if _leaves(here, user_id):
        return see_other(request, "/", flash=_("You have left %(name)s. Your votes stay.", name=here.project.name))
    return see_other(request, _url(here), flash=_("%(email)s was removed. Their votes stay.", email=user.email))


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


def _leaves(here: ProjectContext, user_id: UUID) -> bool:
    """Whether somebody without that membership of theirs may see this page no more: it was their own."""
    return user_id == here.principal.user_id and not here.principal.is_site_admin


def _url(here: ProjectContext) -> str:
    return f"/p/{here.project.slug}/members"
