"""One log line per request, as text or JSON: no name, no address, no query, no body; at most a user's id."""

import json
import logging
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("hone.request")
_FIELDS = ("request_id", "method", "route", "status", "ms", "user")
_SENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/static/{path:path}"})


class RequestLog:
    """Times the request and logs it when the answer is complete; gives both an id (``X-Request-ID``)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        sent = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = sent if _SENT_ID.fullmatch(sent) else secrets.token_hex(8)
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = state["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = route_template(scope)
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            principal = state.get("principal")
            extra = {
                "request_id": state["request_id"],
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": milliseconds,
                "user": str(principal.user_id) if principal is not None else None,
            }
            level = logging.DEBUG if route in _QUIET and status < 400 else logging.INFO
            log.log(level, "%s %s %d %.1f ms", scope["method"], route, status, milliseconds, extra=extra)


def route_template(scope: Scope) -> str:
    """``/p/{slug}/rounds``, never the address itself: addresses hold names and keys. ``-`` where nothing matched."""
    for holder in (scope.get("fastapi", {}).get("effective_route_context"), scope.get("route")):
        path = getattr(holder, "path", None)
        if path:
            return str(path)
    return "-"


class JsonLines(logging.Formatter):
    """A JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, with the request's fields where it has them."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) is not None})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(log_format: Literal["text", "json"]) -> None:
    """Send everything to stderr in that shape. For the process that serves, not for tests."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True
