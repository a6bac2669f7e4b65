"""One log line per request: no name, no address, no query, no body; of people at most an id.

Who asks, and of which project, is said by whoever finds it out (``app.accounts``), by ``logs.also``.
"""

import logging
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs

log = logging.getLogger("hone.request")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/{path:path}"})

Saw = Callable[[str, str, int, float], None]
"""Told of every request when it is over: method, route template, status, seconds."""


class RequestLog:
    """Times the request and logs it when the answer is complete.

    Both have an id (``X-Request-ID``), which is on every line that is logged meanwhile.
    """

    def __init__(self, app: ASGIApp, saw: Saw = lambda *_: None) -> None:
        self._app = app
        self._saw = saw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        sent = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = sent if logs.SENT_ID.fullmatch(sent) else secrets.token_hex(8)
        logs.start(request_id=state["request_id"])
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
            seconds = time.perf_counter() - began
            milliseconds = round(seconds * 1000, 1)
            extra = {"method": scope["method"], "route": route, "status": status, "ms": milliseconds}
            level = logging.DEBUG if route in _QUIET and status < 400 else logging.INFO
            log.log(level, "%s %s %d %.1f ms", scope["method"], route, status, milliseconds, extra=extra)
            self._saw(scope["method"], route, status, seconds)


def route_template(scope: Scope) -> str:
    """``/p/{slug}/rounds``, never the address itself: addresses hold names and keys. ``-`` where nothing matched."""
    for holder in (scope.get("fastapi", {}).get("effective_route_context"), scope.get("route")):
        path = getattr(holder, "path", None)
        if path:
            return str(path)
    return "-"
