"""Where admins decide about flagged pairs, and about answers that say what wrote them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons import flagging
from app.comparisons.desk import shown_answers
from app.comparisons.records import FLAG_REASONS
from app.language import _
from app.web.deps import Db, Render, see_other

router = APIRouter(prefix="/p/{slug}/flagged", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]


@router.get("")
def flagged(here: Here, db: Db, render: Render) -> HTMLResponse:
    """What waits for a decision."""
    return render(
        "comparisons/flagged.html",
        project=here.project,
        flagged=flagging.doubtful(db, here.project),
        telling=flagging.doubtful(db, here.project, telling=True),
        reasons=FLAG_REASONS,
        shown_answers=shown_answers,
    )


@router.post("/{comparison_id}/restore")
def restore(here: Here, request: Request, db: Db, comparison_id: UUID) -> Response:
    """Put a pair back in the queue."""
    flagging.restore(db, here.project, comparison_id, actor=here.principal.user_id)
    return _back(request, here, _("The pair is back in the queue."))


@router.post("/{comparison_id}/withdraw")
def withdraw(here: Here, request: Request, db: Db, comparison_id: UUID) -> Response:
    """Take a pair out for good."""
    flagging.withdraw(db, here.project, comparison_id, actor=here.principal.user_id)
    return _back(request, here, _("The pair is out for good."))


@router.post("/{comparison_id}/keep")
def keep(here: Here, request: Request, db: Db, comparison_id: UUID) -> Response:
    """An answer that seems to say what wrote it does not."""
    flagging.clear_tells(db, here.project, comparison_id, actor=here.principal.user_id)
    return _back(request, here, _("The pair stays in the queue."))


def _back(request: Request, here: ProjectContext, told: str) -> Response:
    return see_other(request, f"/p/{here.project.slug}/flagged", flash=told)
