"""Preferences in the API: taking them along."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.preferences.download import stream

router = APIRouter(prefix="/api/v1", tags=["projects"])


@router.get(
    "/projects/{slug}/export",
    response_class=StreamingResponse,
    responses={200: {"description": "JSON Lines.", "content": {"application/jsonl": {}}}},
)
def export(
    here: Annotated[ProjectContext, access.api_admin("export:read")],
    request: Request,
    export_format: Annotated[
        Literal["trl", "arena", "groups"], Query(alias="format", description="Shape of the rows.")
    ] = "trl",
) -> StreamingResponse:
    """Everything people chose, as JSON Lines, sent row by row.

    `trl`: `prompt`, `chosen`, `rejected` as conversations, ties left out. `arena`: battles as Chatbot Arena published
    them, ties included. `groups`: what `hone train` reads, token ids included.
    """
    return stream(request, here.project, export_format)
