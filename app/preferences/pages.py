"""Preferences on the admin pages: what a round would read now, and drift."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.language import _
from app.preferences import thumbs
from app.preferences.contradictions import Filter, order
from app.preferences.drift import AGO_DAYS, RECENT_DAYS, drift
from app.preferences.service import preview
from app.projects.aggregation import aggregation_of
from app.web.deps import Db, Render

router = APIRouter(prefix="/p/{slug}", include_in_schema=False)

THUMBS_PER_PAGE = 20

LEFT_OUT = {
    "skip": _("skipped"),
    "flag": _("flagged by the vote itself"),
    "undone": _("taken back"),
    "surplus": _("surplus: others had filled the place"),
    "set_aside": _("set aside: their reviewer is in quarantine"),
    "feedback": _("feedback of API clients, which is not used"),
    "flagged": _("on a flagged pair"),
    "identical": _("on answers that read the same"),
    "other_prompt": _("on answers to differently tokenised prompts"),
    "empty": _("on an answer without tokens"),
    "window": _("older than the window"),
    "replay": _("learned before, and not drawn again"),
    "no_criterion": _("without the criterion that is trained on"),
    "tie": _("ties"),
    "both_bad": _("both bad"),
    "undecided": _("on undecided pairs"),
}
"""How the reasons are said; see ``app.preferences.records.REASONS``."""


@router.get("/preferences")
def preferences(
    here: Annotated[ProjectContext, access.admin()],
    db: Db,
    render: Render,
) -> HTMLResponse:
    """What the votes amount to."""
    return render(
        "preferences/page.html",
        project=here.project,
        counts=preview(db, here.project),
        waiting=len(order(db, here.project, Filter())),
        settings=aggregation_of(here.project.aggregation),
        drift=drift(db, here.project),
        recent_days=int(RECENT_DAYS),
        ago_days=int(AGO_DAYS),
        left_out=LEFT_OUT,
        thumbs=thumbs.given(db, here.project),
    )


@router.get("/preferences/thumbs")
def read_thumbs(
    here: Annotated[ProjectContext, access.admin()],
    db: Db,
    render: Render,
    before: Annotated[UUID | None, Query()] = None,
) -> HTMLResponse:
    """What API clients said of single answers, newest first."""
    found = thumbs.page(db, here.project, limit=THUMBS_PER_PAGE + 1, before=before)
    shown = found[:THUMBS_PER_PAGE]
    return render(
        "preferences/thumbs.html",
        project=here.project,
        thumbs=shown,
        older=shown[-1].id if len(found) > THUMBS_PER_PAGE else None,
        first_page=before is None,
    )
