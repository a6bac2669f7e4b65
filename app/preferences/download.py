"""The export as a download: JSON Lines, sent row by row."""

import json
from collections.abc import Iterator

from fastapi import Request
from starlette.responses import StreamingResponse

from app.db.tables import Project
from app.preferences.export import FORMATS, ExportFormatUnknownError, Part, export_rows


def stream(request: Request, project: Project, export_format: str, part: Part = "all") -> StreamingResponse:
    """The preferences of the project in this format, all or those of one split.

    It reads in a session of its own, as long as the answer lasts.

    Raises:
        ExportFormatUnknownError: not one of the known formats.
    """
    if export_format not in FORMATS:
        raise ExportFormatUnknownError(export_format)

    def lines() -> Iterator[str]:
        with request.app.state.session_factory() as db:
            for row in export_rows(db, project, export_format, split=None if part == "all" else part):
                yield json.dumps(row, ensure_ascii=False) + "\n"

    name = f"{project.slug}-{export_format}{'' if part == 'all' else f'-{part}'}.jsonl"
    return StreamingResponse(
        lines(),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
