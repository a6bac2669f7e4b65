"""An address with a slash too many leads to the one without, on this very site: by its path alone.

The framework's redirect names scheme and host as they came to it. Behind a proxy that ends TLS that is ``http``, to
which a browser would send the form once more, and a program its token.
"""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REDIRECT = 307
"""Nothing of ours answers so."""


class SlashRedirects:
    """Takes scheme and host out of the framework's redirects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def by_path(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == _REDIRECT:
                headers = MutableHeaders(scope=message)
                parts = urlsplit(headers["location"])
                query = f"?{parts.query}" if parts.query else ""
                headers["location"] = f"/{parts.path.lstrip('/')}{query}"
            await send(message)

        await self._app(scope, receive, by_path)
