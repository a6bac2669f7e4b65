"""The list of projects, a project's first page, and its export."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext
from app.comparisons.queries import judged, progress
from app.comparisons.waiting import hindered
from app.insights.queries import overview
from app.insights.refill import refill
from app.language import _
from app.preferences.download import stream
from app.preferences.export import Part
from app.projects import queries
from app.rounds import service as rounds
from app.web.deps import Db, Render, see_other

router = APIRouter(include_in_schema=False)

EXPORT_NAMES = {
    "trl": _("TRL (prompt, chosen, rejected)"),
    "arena": _("Arena battles, ties included"),
    "groups": _("Hone's trainer, token ids included"),
    "votes": _("Raw votes, with comments, reasons and criteria"),
}
SPLIT_NAMES = {
    "all": _("All of them"),
    "train": _("Those to train on"),
    "eval": _("Those held out, to evaluate"),
}


@router.get("/")
def home(
    me: Annotated[Principal, access.signed_in()],
    request: Request,
    db: Db,
    render: Render,
    show_all: Annotated[bool, Query(alias="all")] = False,
    archived: bool = False,
) -> Response:
    """The projects somebody takes part in; who has one goes straight there, unless asking for all or for old ones."""
    mine = queries.mine(db, user_id=me.user_id, is_site_admin=me.is_site_admin, archived=archived)
    if len(mine) == 1 and not show_all and not archived:
        return see_other(request, f"/p/{mine[0].project.slug}")
    others = queries.mine(db, user_id=me.user_id, is_site_admin=me.is_site_admin, archived=not archived, limit=1)
    shown = [(item, overview(db, item.project)) for item in mine]
    return render("projects/list.html", projects=shown, archived=archived, others=bool(others))


@router.get("/p/{slug}")
def project_page(here: Annotated[ProjectContext, access.reviewer()], db: Db, render: Render) -> HTMLResponse:
    """What matters now: for admins the loop's state and what to do next, for reviewers the way to the next pair."""
    project = here.project
    return render(
        "projects/overview.html",
        block="status",
        project=project,
        is_admin=here.is_admin,
        figures=overview(db, project),
        refill=refill(db, project) if here.is_admin else None,
        own=progress(db, project=project, reviewer_id=here.principal.user_id),
        hindered=hindered(db, project, here.principal.user_id),
        mine_total=judged(db, project_id=project.id, reviewer_id=here.principal.user_id),
        exports=EXPORT_NAMES,
        splits=SPLIT_NAMES,
    )


@router.post("/p/{slug}/import")
def import_base(here: Annotated[ProjectContext, access.admin()], request: Request, db: Db) -> Response:
    """Bring in the base model as version 1: try the failed import again, or start one."""
    actor = here.principal.user_id
    last = overview(db, here.project).import_round
    if last is not None and last.state == "failed":
        rounds.retry(db, last, actor=actor)
    else:
        rounds.request_import(db, here.project, requested_by=actor)
    return see_other(request, f"/p/{here.project.slug}", flash=_("The base model is being imported."))


@router.get("/p/{slug}/export")
def export(
    here: Annotated[ProjectContext, access.admin()],
    db: Db,
    request: Request,
    format: str = "trl",  # noqa: A002 - the address
    split: Part = "all",
) -> Response:
    """Everything people chose, as JSON Lines, sent row by row."""
    return stream(request, db, here, format, split)
