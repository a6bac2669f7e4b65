"""Preferences in the API: taking them along, what a round would read, drift."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.preferences.download import stream, stream_selected
from app.preferences.drift import drift
from app.preferences.export import Part
from app.preferences.schemas import DriftOut, SummaryOut
from app.preferences.service import preview
from app.preferences.votes_asked import Wanted
from app.projects.aggregation import aggregation_of
from app.web.deps import Db

router = APIRouter(prefix="/api/v1", tags=["projects"])


@router.get(
    "/projects/{slug}/export",
    response_class=StreamingResponse,
    responses={200: {"description": "JSON Lines.", "content": {"application/jsonl": {}}}},
)
def export(
    here: Annotated[ProjectContext, access.api_admin("export:read")],
    db: Db,
    request: Request,
    export_format: Annotated[
        Literal["trl", "arena", "groups", "votes"], Query(alias="format", description="Shape of the rows.")
    ] = "trl",
    split: Annotated[Part, Query(description="`train` leaves held-out votes out, `eval` is only those.")] = "all",
) -> StreamingResponse:
    """Everything people chose, as JSON Lines, sent row by row.

    `trl`: `prompt`, `chosen`, `rejected` as conversations, ties left out. `arena`: battles as Chatbot Arena published
    them, ties included, corrections left out. `groups`: what `hone train` reads, token ids included. `votes`: every
    vote as it was cast, earlier words, skips and checks too, with comments, reasons and criteria; `counts` and
    `left_out` say what a round would make of it. Each row says of its `split` whether it is held out (`eval`).
    """
    return stream(request, db, here, export_format, split)


Reading = Annotated[ProjectContext, access.api_admin("export:read")]


@router.get(
    "/projects/{slug}/preferences/votes",
    response_class=StreamingResponse,
    responses={200: {"description": "JSON Lines.", "content": {"application/jsonl": {}}}},
)
def some_votes(here: Reading, db: Db, request: Request, wanted: Wanted) -> StreamingResponse:
    """Votes of some kind as JSON Lines, oldest first: the rows of the export `votes`.

    The latest word on each pair or ranking; earlier words, choices taken back and thumbs are in the whole export.
    """
    return stream_selected(request, db, here, wanted)


@router.get("/projects/{slug}/preferences")
def summary(here: Reading, db: Db) -> SummaryOut:
    """What a round would read of the votes as they stand, and what it would leave out."""
    settings = aggregation_of(here.project.aggregation)
    return SummaryOut(**preview(db, here.project), aggregation=settings.model_dump())


@router.get("/projects/{slug}/preferences/drift")
def drifting(here: Reading, db: Db) -> DriftOut:
    """How today's votes disagree with earlier ones on the same answers, by the time in between.

    It rests on pairs that were judged twice: repeats, pairs with several votes, gold pairs.
    """
    return DriftOut.model_validate(drift(db, here.project))
