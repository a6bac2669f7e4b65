"""The export as a download: JSON Lines, sent row by row."""

import json
from collections.abc import Iterator

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from app.accounts.principal import ProjectContext
from app.preferences.export import FORMATS, ExportFormatUnknownError, Part, export_rows, note


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

    def lines() -> Iterator[str]:
        with request.app.state.session_factory() as own:
            for row in export_rows(own, project, export_format, split=None if part == "all" else part):
                yield json.dumps(row, ensure_ascii=False) + "\n"

    name = f"{project.slug}-{export_format}{'' if part == 'all' else f'-{part}'}.jsonl"
    return StreamingResponse(
        lines(),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
