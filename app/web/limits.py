"""What is refused before anything reads it: bodies that are too large, and writes that come from another site."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DomainError, ForbiddenError
from app.language import _
from app.language.figures import Figure
from app.web.csrf import SAFE_METHODS


class BodyTooLargeError(DomainError):
    """Larger than HONE_MAX_BODY_BYTES, or HONE_CHAT_MAX_BODY_BYTES."""

    code = "body_too_large"
    status = 413
    title = _("Too large")


class CrossSiteError(ForbiddenError):
    """A browser says that another site made it send this."""

    code = "cross_site"
    title = _("Sent from another site")


class BodyCap:
    """Stops reading at ``max_bytes``. By the declared length if there is one, by counting otherwise.

    Under ``chat_prefix`` the limit is ``chat_max_bytes``: what talks to a model is small.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, chat_prefix: str = "/v1/", chat_max_bytes: int = 2**20) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._chat_prefix = chat_prefix
        self._chat_max_bytes = min(max_bytes, chat_max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chat = scope["path"].startswith(self._chat_prefix)
        limit = self._chat_max_bytes if chat else self._max_bytes
        setting = "HONE_CHAT_MAX_BODY_BYTES" if chat else "HONE_MAX_BODY_BYTES"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _refusal(int(declared), limit, setting)
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The framework turns every other exception of a body's reader into a 400.
                raise HTTPException(413) from _refusal(seen, limit, setting)
            return message

        await self._app(scope, receive_counted, send)


class SameOrigin:
    """Lets a browser's writes through only from our own pages. Others than browsers send none of these headers."""

    def __init__(self, app: ASGIApp, *, trusted_origins: list[str], secure: bool) -> None:
        self._app = app
        self._trusted = {origin.rstrip("/").lower() for origin in trusted_origins}
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            self._check(Headers(scope=scope))
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        origin = headers.get("origin", "").lower()
        if origin in self._trusted:
            return
        site = headers.get("sec-fetch-site")
        foreign = site not in ("same-origin", "none") if site is not None else bool(origin) and not self._own(
            origin, headers.get("host", "").lower()
        )  # fmt: skip
        if foreign:
            raise CrossSiteError(
                _(
                    "This came from %(origin)s, not from %(host)s.",
                    origin=origin or _("another site"),
                    host=headers.get("host") or _("here"),
                ),
                mend=_("Open this site directly and do it there. Behind a proxy, set HONE_TRUSTED_ORIGINS."),
            )

    def _own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.netloc == host and (parts.scheme == "https" or not self._secure)


def _refusal(size: int, limit: int, setting: str) -> BodyTooLargeError:
    return BodyTooLargeError(
        _(
            "What was sent has %(size)s or more; %(limit)s is the limit.",
            size=_mebibytes(size),
            limit=_mebibytes(limit),
        ),
        mend=_("Send it in parts. Whoever runs this installation can raise %(setting)s.", setting=setting),
    )


def _mebibytes(size: int) -> str:
    return _("%(n)s MiB", n=Figure(size / 2**20, 1)) if size >= 2**20 else _("%(n)s bytes", n=Figure(size))
