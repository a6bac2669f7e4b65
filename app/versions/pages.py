"""A project's versions: where they came from, how they did, and which one is current."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.db.tables import Version
from app.errors import NotFoundError
from app.insights.winrates import win_rates
from app.language import _
from app.rounds import blind, service
from app.versions import queries
from app.versions.figures import figures
from app.web.deps import AppSettings, Db, Render, see_other

router = APIRouter(prefix="/p/{slug}/versions", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]


@router.get("")
def versions(here: Here, db: Db, render: Render) -> HTMLResponse:
    """All versions, newest first."""
    lineage = queries.lineage(db, here.project)
    return render(
        "versions/list.html",
        project=here.project,
        versions=[(item, figures(item.version)) for item in lineage],
        numbers={item.version.id: item.version.number for item in lineage},
        judging={
            item.version.id: blind.result(db, here.project, item.version)
            for item in lineage
            if item.version.gate_state == "open"
        },
        rates=win_rates(db, here.project),
        earlier=queries.predecessor(db, here.project),
    )


@router.post("/{number}/promote")
def promote(here: Here, number: str, request: Request, db: Db, settings: AppSettings) -> Response:
    """Make a version the current one."""
    version = service.promote(db, _version(db, here, number), actor=here.principal.user_id, settings=settings)
    return _back(request, here, _("Version %(number)s is current. New pairs come from it.", number=version.number))


@router.post("/roll-back")
def roll_back(here: Here, request: Request, db: Db, settings: AppSettings) -> Response:
    """Go back to the version before."""
    version = service.roll_back(db, here.project, actor=here.principal.user_id, settings=settings)
    return _back(request, here, _("Rolled back: version %(number)s is current again.", number=version.number))


@router.post("/{number}/reject")
def reject(
    here: Here, number: str, request: Request, db: Db, reason: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Put a candidate aside."""
    version = service.reject(db, _version(db, here, number), actor=here.principal.user_id, reason=reason)
    return _back(
        request, here, _("Version %(number)s was rejected. Its files and figures stay.", number=version.number)
    )


def _version(db: Db, here: ProjectContext, number: str) -> Version:
    version = queries.by_number(db, here.project, number)
    if version is None:
        raise NotFoundError(
            _("%(name)s has no version %(number)s.", name=here.project.name, number=number),
            mend=_("Look in the list of versions."),
        )
    return version


def _back(request: Request, here: ProjectContext, told: str) -> Response:
    return see_other(request, f"/p/{here.project.slug}/versions", flash=told)
