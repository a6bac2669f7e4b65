"""Preferences on the admin pages: what a round would read now, contradictions, drift."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.preferences.contradictions import contradictions
from app.preferences.drift import AGO_DAYS, RECENT_DAYS, drift
from app.preferences.service import preview
from app.projects.aggregation import aggregation_of
from app.web.deps import Db, Render

router = APIRouter(prefix="/p/{slug}", include_in_schema=False)

PAGE_SIZE = 10

LEFT_OUT = {
    "skip": "skipped",
    "flag": "flagged by the vote itself",
    "undone": "taken back",
    "surplus": "surplus: others had filled the place",
    "set_aside": "set aside: their reviewer is in quarantine",
    "feedback": "feedback of API clients, which is not used",
    "flagged": "on a flagged pair",
    "identical": "on answers that read the same",
    "other_prompt": "on answers to differently tokenised prompts",
    "empty": "on an answer without tokens",
    "window": "older than the window",
    "replay": "learned before, and not drawn again",
    "no_criterion": "without the criterion that is trained on",
    "tie": "ties",
    "both_bad": "both bad",
    "undecided": "on undecided pairs",
}
"""How the reasons are said; see ``app.preferences.records.REASONS``."""


@router.get("/preferences")
def preferences(
    here: Annotated[ProjectContext, access.admin()],
    db: Db,
    render: Render,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> HTMLResponse:
    """What the votes amount to."""
    found = contradictions(db, here.project, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    return render(
        "preferences/page.html",
        project=here.project,
        counts=preview(db, here.project),
        settings=aggregation_of(here.project.aggregation),
        drift=drift(db, here.project),
        recent_days=int(RECENT_DAYS),
        ago_days=int(AGO_DAYS),
        contested=found[:PAGE_SIZE],
        page=page,
        more=len(found) > PAGE_SIZE,
        left_out=LEFT_OUT,
    )
