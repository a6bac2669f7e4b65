"""A project's prompts: the table, the form for one, and the upload of many."""

import csv
import io
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from starlette.datastructures import UploadFile as ReceivedFile
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.errors import DomainError
from app.language import _, listed, sentence
from app.prompts import queries, service
from app.prompts.conversations import ConversationError, normalise
from app.prompts.upload import MAX_ROWS
from app.versions.lengths import length_check
from app.web.deps import AppSettings, Db, Render, see_other
from app.web.replies import path_of

router = APIRouter(prefix="/p/{slug}/prompts", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]
_SHOWN_ERRORS = 200


@router.get("")
def prompts(
    here: Here,
    db: Db,
    render: Render,
    show: Annotated[queries.Show, Query()] = "active",
    search: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[UUID | None, Query()] = None,
) -> HTMLResponse:
    """The prompts, newest first, a page at a time."""
    return render(
        "prompts/list.html",
        block="table",
        project=here.project,
        counts=queries.counts(db, here.project),
        page=queries.page(db, here.project, show=show, search=search, before=cursor),
        show=show,
        search=search,
        first=cursor is None,
    )


@router.get("/new")
def new(here: Here, settings: AppSettings, render: Render) -> HTMLResponse:
    """The form for one prompt, and the one for a file."""
    return render("prompts/add.html", **_add(here, settings))


@router.post("/new")
def add(
    here: Here,
    request: Request,
    db: Db,
    settings: AppSettings,
    render: Render,
    prompt: Annotated[str, Form()] = "",
    system: Annotated[str, Form()] = "",
) -> Response:
    """Add one prompt: a user's turn, after a system message if one was given."""
    turns = [{"role": "system", "content": system}] if system.strip() else []
    typed = {"prompt": prompt, "system": system}
    if not prompt.strip():
        return render(
            "prompts/add.html", status=422, **_add(here, settings, **typed, problem=_("Write a prompt first."))
        )
    try:
        conversation = normalise([*turns, {"role": "user", "content": prompt}], max_chars=settings.max_prompt_chars)
    except ConversationError as error:
        return render("prompts/add.html", status=422, **_add(here, settings, **typed, problem=sentence(error.message)))
    check = length_check(db, here.project, settings=settings)
    too_long = None if check is None else check(conversation)
    if too_long is not None:
        return render("prompts/add.html", status=422, **_add(here, settings, **typed, problem=sentence(too_long)))
    added = service.add_prompts(db, here.project, [conversation], source="form", created_by=here.principal.user_id)
    told = _("The prompt was added.") if added.created else _("The project has this prompt already.")
    return see_other(request, _url(here), flash=told, tone="good" if added.created else "info")


@router.post("/upload")
def upload(
    here: Here,
    request: Request,
    db: Db,
    settings: AppSettings,
    render: Render,
    file: Annotated[UploadFile | str | None, File()] = None,
    keep: Annotated[str, Form()] = "good",
) -> Response:
    """Add the prompts of a file, and go and see what became of its rows."""
    if not isinstance(file, ReceivedFile) or not file.filename:
        return render(
            "prompts/add.html", status=422, **_add(here, settings, keep=keep, refused=_("Choose a file first."))
        )
    try:
        kept = service.keep_upload(
            db,
            here.project,
            file.file,
            file.filename,
            all_or_nothing=keep == "all",
            max_chars=settings.max_prompt_chars,
            check_length=length_check(db, here.project, settings=settings),
            created_by=here.principal.user_id,
        )
    except DomainError as error:
        refused = listed((sentence(text) for text in (error.message, error.mend) if text), " ")
        return render("prompts/add.html", status=error.status, **_add(here, settings, keep=keep, refused=refused))
    return see_other(request, f"{_url(here)}/uploads/{kept.id}")


@router.get("/uploads/{upload_id}")
def upload_result(here: Here, db: Db, upload_id: UUID, render: Render) -> HTMLResponse:
    """How many rows were kept, and which were bad and why."""
    kept = queries.get_upload(db, here.project, upload_id)
    return render("prompts/upload.html", project=here.project, upload=kept, shown=kept.errors[:_SHOWN_ERRORS])


@router.get("/uploads/{upload_id}/errors.csv")
def upload_errors(here: Here, db: Db, upload_id: UUID) -> Response:
    """The bad rows as a file."""
    kept = queries.get_upload(db, here.project, upload_id)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["line", "problem"])
    writer.writerows([error["line"], _harmless(error["message"])] for error in kept.errors)
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="bad-rows.csv"'},
    )


@router.post("/{prompt_id}/archive")
def archive(here: Here, request: Request, db: Db, prompt_id: UUID) -> Response:
    """Put a prompt aside."""
    service.archive(db, here.project, prompt_id, actor=here.principal.user_id)
    return see_other(request, _from(request, here), flash=_("Archived. No new pairs are made of it; its votes stay."))


@router.post("/{prompt_id}/unarchive")
def unarchive(here: Here, request: Request, db: Db, prompt_id: UUID) -> Response:
    """Take a prompt back into use."""
    service.unarchive(db, here.project, prompt_id, actor=here.principal.user_id)
    return see_other(request, _from(request, here), flash=_("The prompt is in use again."))


def _add(here: ProjectContext, settings: AppSettings, **context: Any) -> dict[str, Any]:
    limits = {"max_rows": MAX_ROWS, "max_mebibytes": settings.max_body_bytes // 2**20}
    typed = {"prompt": "", "system": "", "problem": "", "refused": "", "keep": "good"}
    return {"project": here.project} | limits | typed | context


def _url(here: ProjectContext) -> str:
    return f"/p/{here.project.slug}/prompts"


def _from(request: Request, here: ProjectContext) -> str:
    """The page of the table somebody came from, with its search."""
    back = path_of(request.headers.get("referer"))
    return back if back is not None and back.partition("?")[0] == _url(here) else _url(here)


def _harmless(cell: str) -> str:
    """A spreadsheet must not take it for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
