"""Static files: addressed by their content, so that browsers may keep them for a year."""

import hashlib
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.web.guard import public

STATIC = Path(__file__).resolve().parent.parent / "static"
router = APIRouter(include_in_schema=False)
_files = StaticFiles(directory=STATIC)


def url(path: str) -> str:
    """The address of ``app/static/<path>``, which changes with its content."""
    stat = (STATIC / path).stat()
    return f"/static/{path}?v={_digest(path, stat.st_mtime_ns, stat.st_size)}"


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"], dependencies=[public()], name="static")
async def static(path: str, request: Request) -> Response:
    """A file of ours. Anything outside the folder, and the folder itself, is 404."""
    answer = await _files.get_response(path, request.scope)
    known = "v" in request.query_params
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if known else "no-cache"
    return answer


@lru_cache(maxsize=256)
def _digest(path: str, _changed: int, _size: int) -> str:
    return hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
