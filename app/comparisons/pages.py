"""The page where people compare, and the one where they look back: plain forms, of which HTMX swaps the desk."""

from typing import Annotated, Any, get_args
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons import queries, service
from app.comparisons.errors import LeaseNotFoundError, VoteFrozenError, VoteInvalidError
from app.comparisons.records import FLAG_REASONS, Choice, Leased
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.db.ids import new_id
from app.web.deps import Db, Render, is_htmx, see_other

router = APIRouter(include_in_schema=False)

Reviewing = Annotated[ProjectContext, access.reviewer()]

NOT_COUNTED = (
    "Your choice is kept. It does not count, because others had judged this pair or it was withdrawn meanwhile."
)
SAID: dict[Choice, str] = {
    "a": "A is better",
    "b": "B is better",
    "tie": "Tie",
    "both_bad": "Both bad",
    "ranked": "Ranked",
    "skip": "Skipped",
    "flag": "Flagged",
}
"""How a choice is called on the page."""
TAKEN_BACK = "Taken back. Choose again."
PAGE_SIZE = 20


@router.get("/p/{slug}/compare")
def compare(
    here: Reviewing, db: Db, request: Request, render: Render, again: UUID | None = None, waiting: str | None = None
) -> Response:
    """The pair in hand, or a pair that was judged before (``again``: its lease), or why there is none.

    A page that is ``waiting`` asks every few seconds and gets 204 as long as that is still why.
    """
    leased = None
    if again is not None:
        leased = service.load_lease(db, reviewer_id=here.principal.user_id, assignment_id=again)
        if leased is None or leased.project_id != here.project.id:
            raise LeaseNotFoundError
        if not queries.is_changeable(db, again):
            raise VoteFrozenError
    leased = leased or service.lease_next(db, project=here.project, reviewer_id=here.principal.user_id)
    if (
        leased is None
        and waiting is not None
        and is_htmx(request)
        and waiting == why_empty(db, here.project, here.principal.user_id)
    ):
        return Response(status_code=204)
    return _desk(here, db, render, leased=leased, said="A new pair is ready." if waiting else "")


@router.post("/p/{slug}/compare")
def choose(
    here: Reviewing,
    db: Db,
    request: Request,
    render: Render,
    lease: Annotated[UUID, Form()],
    choice: Annotated[str, Form()],
    key: Annotated[str | None, Form()] = None,
    comment: Annotated[str | None, Form()] = None,
    seconds: Annotated[str, Form()] = "",
) -> Response:
    """A choice by button or key; the answer holds the next pair."""
    said, _, reason = choice.partition(":")
    recorded = service.record_vote(
        db,
        reviewer_id=here.principal.user_id,
        assignment_id=lease,
        project_id=here.project.id,
        choice=_choice(said),
        idempotency_key=key or None,
        comment=comment,
        reason=reason or None,
        seconds=_seconds(seconds),
        source="web",
    )
    notice = NOT_COUNTED if recorded.surplus else None
    if not is_htmx(request):
        return see_other(request, f"/p/{here.project.slug}/compare", flash=notice, tone="info")
    leased = service.lease_next(db, project=here.project, reviewer_id=here.principal.user_id)
    return _desk(here, db, render, leased=leased, said=SAID[recorded.vote.choice], notice=notice, voted=True)


@router.post("/p/{slug}/compare/undo")
def undo(here: Reviewing, db: Db, request: Request, render: Render, lease: Annotated[UUID, Form()]) -> Response:
    """Take a choice back; the answer holds that pair. Pressed twice, it takes back once."""
    leased = service.undo_vote(db, reviewer_id=here.principal.user_id, assignment_id=lease, project_id=here.project.id)
    if not is_htmx(request):
        return see_other(request, f"/p/{here.project.slug}/compare?again={lease}", flash=TAKEN_BACK, tone="info")
    return _desk(here, db, render, leased=leased, said=TAKEN_BACK)


@router.get("/p/{slug}/answers")
def my_answers(here: Reviewing, db: Db, render: Render, before: Annotated[UUID | None, Query()] = None) -> HTMLResponse:
    """What I said so far, newest first."""
    found = queries.answers(
        db, project_id=here.project.id, reviewer_id=here.principal.user_id, limit=PAGE_SIZE + 1, before=before
    )
    return render(
        "comparisons/answers.html",
        block="answers",
        project=here.project,
        answers=found[:PAGE_SIZE],
        older=found[PAGE_SIZE - 1].vote_id if len(found) > PAGE_SIZE else None,
        first_page=before is None,
        flag_reasons=FLAG_REASONS,
        choices=SAID,
    )


def _desk(
    here: ProjectContext,
    db: Db,
    render: Render,
    *,
    leased: Leased | None,
    said: str = "",
    notice: str | None = None,
    voted: bool = False,
) -> HTMLResponse:
    """The page, or for HTMX the desk with the pair on it; ``said`` is read out to those who cannot see it change."""
    project, me = here.project, here.principal.user_id
    last = queries.answers(db, project_id=project.id, reviewer_id=me, limit=1)
    context: dict[str, Any] = {
        "project": project,
        "is_admin": here.is_admin,
        "reviewer": me,
        "pair": leased,
        "seconds_left": max(0, int((leased.expires_at - utcnow()).total_seconds())) if leased else 0,
        "key": new_id(),
        "last": last[0] if last and last[0].changeable else None,
        "progress": queries.progress(db, project=project, reviewer_id=me),
        "why": None if leased else why_empty(db, project, me),
        "flag_reasons": FLAG_REASONS,
        "choices": SAID,
        "said": said,
        "taken_back": said == TAKEN_BACK,
    }
    headers = {"HX-Replace-Url": f"/p/{project.slug}/compare"} if voted else {}
    return render("comparisons/compare.html", block="desk", headers=headers, notice=notice, tone="info", **context)


def _choice(value: str) -> Choice:
    for choice in get_args(Choice):
        if choice == value:
            return choice  # type: ignore[no-any-return]
    raise VoteInvalidError(f"The choice {value!r} is unknown.", mend="Choose with one of the buttons of the page.")


def _seconds(value: str) -> float | None:
    """What the page measured; anything else than a sensible number of seconds is as good as nothing."""
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
