"""The export as a download: JSON Lines, sent row by row."""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from app.accounts.principal import ProjectContext
from app.preferences.export import FORMATS, ExportFormatUnknownError, Part, export_rows, note
from app.preferences.raw import selected
from app.preferences.records import Split
from app.preferences.votes import Filter


def stream(
    request: Request, db: Session, here: ProjectContext, export_format: str, part: Part = "all"
) -> StreamingResponse:
    """The preferences of the project in this format, all or those of one split. Who took them is in the audit log.

    It reads in a session of its own, as long as the answer lasts.

    Raises:
        ExportFormatUnknownError: not one of the known formats.
    """
    if export_format not in FORMATS:
        raise ExportFormatUnknownError(export_format)
    project = here.project
    note(db, project, here.principal.user_id, export_format, part)
    name = f"{project.slug}-{export_format}{'' if part == 'all' else f'-{part}'}.jsonl"
    split: Split | None = None if part == "all" else part
    return _lines(request, name, lambda own: export_rows(own, project, export_format, split=split))


def stream_selected(request: Request, db: Session, here: ProjectContext, wanted: Filter) -> StreamingResponse:
    """The votes that the filter asks for, as the page of votes lists them. Who took which is in the audit log."""
    project = here.project
    asked = {item.name: getattr(wanted, item.name) for item in fields(wanted)}
    narrowed = {f"only_{name}": str(value) for name, value in asked.items() if value is not None}
    note(db, project, here.principal.user_id, "votes", "all", **narrowed)
    return _lines(request, f"{project.slug}-votes-selected.jsonl", lambda own: selected(own, project, wanted))


def _lines(request: Request, name: str, rows: Callable[[Session], Iterator[dict[str, Any]]]) -> StreamingResponse:
    def lines() -> Iterator[str]:
        with request.app.state.session_factory() as own:
            for row in rows(own):
                yield json.dumps(row, ensure_ascii=False) + "\n"

    return StreamingResponse(
        lines(),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
