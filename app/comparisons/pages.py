"""The page where people compare: plain forms, which a script sends so that the next pair is there at once."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons import ballot_form, desk, queries, service
from app.comparisons.errors import LeaseNotFoundError, VoteFrozenError
from app.comparisons.records import Leased
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.language import _
from app.projects import guidelines
from app.projects.reviewing import reviewing_of
from app.web.deps import Db, Fields, Render, is_htmx, see_other, without_thread

router = APIRouter(include_in_schema=False)

Reviewing = Annotated[ProjectContext, access.reviewer()]

NOT_COUNTED = _(
    "Your choice is kept. It does not count, because others had judged this pair or it was withdrawn meanwhile."
)
TAKEN_BACK = _("Taken back. Choose again.")


@router.get("/p/{slug}/compare")
@without_thread
def compare(
    here: Reviewing, db: Db, request: Request, render: Render, again: UUID | None = None, waiting: str | None = None
) -> Response:
    """The pair in hand, or a pair that was judged before (``again``: its lease), or why there is none.

    A page that is ``waiting`` asks every few seconds and gets 204 as long as that is still why.
    """
    me = here.principal.user_id
    leased = None
    archived = here.project.archived_at is not None
    if again is not None and not archived:
        leased = service.load_lease(db, reviewer_id=me, assignment_id=again)
        if leased is None or leased.project_id != here.project.id:
            raise LeaseNotFoundError
        if not queries.is_changeable(db, again):
            raise VoteFrozenError
    if not archived:
        leased = leased or service.lease_next(db, project=here.project, reviewer_id=me)
    still = leased is None and waiting is not None and waiting == why_empty(db, here.project, me)
    if still and is_htmx(request):
        return Response(status_code=204)
    told = _("A new pair is ready.") if waiting else ""
    news = None if is_htmx(request) else guidelines.news(db, here.project, me)
    return _desk(here, db, render, leased, told=told, news=news)


@router.post("/p/{slug}/compare")
@without_thread
def choose(
    here: Reviewing,
    db: Db,
    request: Request,
    render: Render,
    fields: Fields,
    lease: Annotated[UUID, Form()],
) -> Response:
    """A choice by button or key; the answer holds the next pair.

    A page that had the next pair ready says which it is ``showing`` already, for how many seconds, and is answered
    with the one after that. The choice is a transaction of its own: whoever judges the same pair waits for that, and
    not for what comes next to be found. Sent again after an error in between, it is answered as if there was none.
    """
    project, me = here.project, here.principal.user_id
    showing = fields.get("showing")
    on_screen = _uuid(showing) if showing and is_htmx(request) else None
    held = None
    if ballot_form.holds_edits(fields):  # what was edited is only known beside what it was
        held = service.load_lease(db, reviewer_id=me, assignment_id=lease)
    ballot = ballot_form.read(fields, reviewing_of(project.reviewing), held.answers if held else ())
    first = "change" not in fields
    recorded = service.record_vote(
        db, reviewer_id=me, assignment_id=lease, project_id=project.id, first=first, source="web", **ballot
    )
    db.commit()
    notice = NOT_COUNTED if recorded.surplus else None
    if not is_htmx(request):
        return see_other(request, f"/p/{project.slug}/compare", flash=notice, tone="info")
    if on_screen is not None:
        since = utcnow() - timedelta(
            seconds=min(ballot_form.seconds_of(str(fields.get("showing_for", ""))) or 0.0, 60.0)
        )
        leased = service.lease_ahead(db, project=project, reviewer_id=me, holding=on_screen, showing_since=since)
        answer = _desk(here, db, render, leased, notice=notice, ahead=True)
        db.commit()
        return answer
    leased = service.lease_next(db, project=project, reviewer_id=me)
    told = desk.said(recorded.vote.choice, recorded.vote.strength)
    return _desk(here, db, render, leased, told=told, notice=notice)


@router.post("/p/{slug}/compare/ahead")
@without_thread
def ahead(here: Reviewing, db: Db, render: Render, holding: Annotated[UUID, Form()]) -> Response:
    """One pair more, for the page to keep ready behind the one that the reviewer is ``holding`` (its lease)."""
    leased = service.lease_ahead(db, project=here.project, reviewer_id=here.principal.user_id, holding=holding)
    return _desk(here, db, render, leased, ahead=True)


@router.post("/p/{slug}/compare/keep")
def keep(here: Reviewing, db: Db, lease: Annotated[UUID, Form()]) -> Response:
    """Somebody is still reading: the pair stays theirs a while longer. Says for how many seconds; 0 if it is lost."""
    until = service.extend_lease(db, reviewer_id=here.principal.user_id, assignment_id=lease)
    seconds = 0 if until is None else max(0, int((until - utcnow()).total_seconds()))
    return Response(status_code=204, headers={"Hone-Seconds-Left": str(seconds)})


@router.post("/p/{slug}/compare/undo")
def undo(here: Reviewing, db: Db, request: Request, render: Render, lease: Annotated[UUID, Form()]) -> Response:
    """Take a choice back; the answer holds that pair. Pressed twice, it takes back once."""
    leased = service.undo_vote(db, reviewer_id=here.principal.user_id, assignment_id=lease, project_id=here.project.id)
    if not is_htmx(request):
        return see_other(request, f"/p/{here.project.slug}/compare?again={lease}", flash=TAKEN_BACK, tone="info")
    return _desk(here, db, render, leased, told=TAKEN_BACK)


@router.post("/p/{slug}/compare/guidelines")
def read_guidelines(here: Reviewing, db: Db, request: Request, number: Annotated[int, Form()]) -> Response:
    """A reviewer has read what has changed."""
    guidelines.read(db, here.project, here.principal.user_id, number)
    return Response() if is_htmx(request) else see_other(request, f"/p/{here.project.slug}/compare")


def _desk(
    here: ProjectContext,
    db: Db,
    render: Render,
    leased: Leased | None,
    *,
    told: str = "",
    notice: str | None = None,
    ahead: bool = False,
    news: guidelines.News | None = None,
) -> HTMLResponse:
    """The page, or for a script the desk with the pair on it; ``told`` is read out, for those who cannot see it."""
    shown = desk.context(db, here.project, here.principal.user_id, leased, ahead=ahead)
    return render(
        "comparisons/compare.html",
        block="desk",
        notice=notice,
        tone="info",
        **shown,
        is_admin=here.is_admin,
        told=told,
        taken_back=told == TAKEN_BACK,
        news=news,
    )


def _uuid(value: object) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        raise LeaseNotFoundError from None
