"""In which language a request is answered. Raw ASGI."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.language import accepted, speaking


class SpokenLanguage:
    """What the browser asks for; when it is known who is signed in, ``app.accounts`` puts their own choice first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with speaking(accepted(Headers(scope=scope).get("accept-language"))):
            await self._app(scope, receive, send)
