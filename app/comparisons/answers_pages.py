"""My answers: everything a reviewer said, how it came about, and what of it can still be changed."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons import queries
from app.comparisons.desk import order_in_words, said, shown_answers
from app.comparisons.records import FLAG_REASONS, SKIP_REASONS
from app.projects.reviewing import reviewing_of
from app.web.deps import Db, Render

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 20


@router.get("/p/{slug}/answers")
def my_answers(
    here: Annotated[ProjectContext, access.reviewer()],
    db: Db,
    render: Render,
    before: Annotated[UUID | None, Query()] = None,
) -> HTMLResponse:
    """What I said so far, newest first."""
    me = here.principal.user_id
    found = queries.answers(db, project_id=here.project.id, reviewer_id=me, limit=PAGE_SIZE + 1, before=before)
    page = found[:PAGE_SIZE]
    return render(
        "comparisons/answers.html",
        block="answers",
        project=here.project,
        answers=[(answer, shown_answers(answer.shown)) for answer in page],
        histories=queries.histories(db, [answer.assignment_id for answer in page]),
        labels={criterion.key: criterion.label for criterion in reviewing_of(here.project.reviewing).criteria},
        older=found[PAGE_SIZE - 1].vote_id if len(found) > PAGE_SIZE else None,
        first_page=before is None,
        reasons=FLAG_REASONS | SKIP_REASONS,
        in_words=said,
        order_in_words=order_in_words,
    )
