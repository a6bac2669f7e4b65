"""The page on which admins read everybody's votes, and the export of those that it lists."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons.desk import order_in_words, said, shown_answers
from app.comparisons.records import FLAG_REASONS, SKIP_REASONS
from app.language import _
from app.preferences import votes
from app.preferences.download import stream_selected
from app.preferences.votes_asked import MAX_WORDS, Wanted, as_query
from app.projects.reviewing import reviewing_of
from app.reviewers.queries import people
from app.web.deps import Db, Render

router = APIRouter(prefix="/p/{slug}/preferences", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]
PAGE_SIZE = 20

CHOICES = {
    "said": (
        ("", _("Anything")),
        ("preferred", _("One answer is better")),
        ("tie", _("Tie")),
        ("both_bad", _("Both bad")),
        ("ranked", _("Ranked")),
        ("skip", _("Skipped")),
        ("flag", _("Flagged")),
    ),
    "origin": (
        ("", _("Anywhere")),
        ("reviewers", _("By reviewers")),
        ("clients", _("By API clients, as feedback")),
        ("playground", _("In the playground")),
    ),
    "with": (
        ("", _("With or without")),
        ("comment", _("A comment")),
        ("reasons", _("Ticked reasons")),
        ("correction", _("A corrected answer")),
    ),
    "split": (("", _("All prompts")), ("train", _("Those to train on")), ("eval", _("Held-out prompts"))),
    "age": (
        ("", _("At any time")),
        ("week", _("Within 7 days")),
        ("month", _("Within 30 days")),
        ("older", _("More than 30 days ago")),
    ),
}
"""What can be chosen in the form, by its fields."""


@router.get("/votes")
def listed(
    here: Here, db: Db, render: Render, wanted: Wanted, before: Annotated[UUID | None, Query()] = None
) -> HTMLResponse:
    """What was said of pairs and rankings, by whomever, newest first."""
    found = votes.page(db, here.project, wanted, size=PAGE_SIZE, before=before)
    return render(
        "preferences/votes.html",
        project=here.project,
        wanted=wanted,
        asking=as_query(wanted),
        total=votes.count(db, here.project, wanted),
        most=votes.COUNTED_UP_TO,
        spoken=[(item, shown_answers(item.read.answer.shown)) for item in found.items],
        older=found.older,
        first_page=before is None,
        people=[(person.id, person.name or person.email) for person in people(db, here.project)],
        choices=CHOICES,
        max_words=MAX_WORDS,
        labels={criterion.key: criterion.label for criterion in reviewing_of(here.project.reviewing).criteria},
        reasons=FLAG_REASONS | SKIP_REASONS,
        in_words=said,
        order_in_words=order_in_words,
    )


@router.get("/votes.jsonl")
def download(here: Here, db: Db, request: Request, wanted: Wanted) -> Response:
    """The same votes, all of them, as JSON Lines."""
    return stream_selected(request, db, here, wanted)
