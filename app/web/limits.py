"""What is refused before anything reads it: bodies that are too large, and writes that come from another site."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DomainError, ForbiddenError
from app.language import _
from app.language.figures import Figure
from app.web.csrf import FORM_TYPES, SAFE_METHODS
from app.web.openai_errors import OPENAI_PREFIX

STRANGERS_BYTES = 64 * 1024
"""The largest body of somebody who is not known."""
PATIENCE_SECONDS = 30.0
"""How long a body may stand still."""


class BodyTooLargeError(DomainError):
    """Larger than HONE_MAX_BODY_BYTES, or HONE_CHAT_MAX_BODY_BYTES."""

    code = "body_too_large"
    status = 413
    title = _("Too large")


class CrossSiteError(ForbiddenError):
    """A browser says that another site made it send this."""

    code = "cross_site"
    title = _("Sent from another site")


class BodyTooSlowError(DomainError):
    """Nothing more of a body came for a while."""

    code = "body_too_slow"
    status = 408
    title = _("Too slow")


Knows = Callable[[Request], Awaitable[bool]]
"""Whether a request's cookie or token is somebody's."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The largest bodies, bytes."""

    files: int
    """Of forms, which are read piece by piece."""
    chat: int
    """Of what talks to a model."""

    @property
    def json(self) -> int:
        """Of JSON: it is parsed in one go, while which nobody else is answered."""
        return self.files // 4

    def of(self, path: str, content_type: str) -> int:
        """For one request of somebody who is known."""
        if path.startswith(OPENAI_PREFIX):
            return min(self.files, self.chat)
        return self.files if content_type.startswith(FORM_TYPES) else self.json


class BodyCap:
    """Stops reading where a body is too large, by its declared length or by counting, or where it no longer comes.

    Whoever is not known may send a sign-in form and little more, whatever they claim to be.
    """

    def __init__(self, app: ASGIApp, *, caps: Caps, knows: Knows, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._app = app
        self._caps = caps
        self._knows = knows
        self._patience = patience_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        limit = await self._allowed(scope, int(declared) if declared.isdecimal() else 0)
        seen, whole = 0, False

        async def receive_counted() -> Message:
            nonlocal limit, seen, whole
            if whole:  # waits for the client to hang up
                return await receive()
            try:
                async with asyncio.timeout(self._patience):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from BodyTooSlowError(
                    _("Nothing more of the request came for %(seconds)s s.", seconds=round(self._patience)),
                    mend=_("Send it again; if the connection is slow, in parts."),
                )
            whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > limit:
                try:
                    limit = await self._allowed(scope, seen)
                except BodyTooLargeError as error:
                    # The framework turns every other exception of a body's reader into a 400.
                    raise HTTPException(413) from error
            return message

        await self._app(scope, receive_counted, send)

    async def _allowed(self, scope: Scope, size: int) -> int:
        """How much this request may send; who it is is asked only if ``size`` is more than anybody may.

        Raises:
            BodyTooLargeError: not as much as that.
        """
        path, headers = scope["path"], Headers(scope=scope)
        limit = self._caps.of(path, headers.get("content-type", ""))
        if size <= min(limit, STRANGERS_BYTES):
            return min(limit, STRANGERS_BYTES)
        if size > limit:
            chat = path.startswith(OPENAI_PREFIX)
            raise _too_large(size, limit, "HONE_CHAT_MAX_BODY_BYTES" if chat else "HONE_MAX_BODY_BYTES")
        if not await self._knows(Request(scope)):
            raise _unknown(size)
        return limit


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


def _too_large(size: int, limit: int, setting: str) -> BodyTooLargeError:
    return BodyTooLargeError(
        _(
            "What was sent has %(size)s or more; %(limit)s is the limit.",
            size=_mebibytes(size),
            limit=_mebibytes(limit),
        ),
        mend=_("Send it in parts. Whoever runs this installation can raise %(setting)s.", setting=setting),
    )


def _unknown(size: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        _(
            "What was sent has %(size)s or more; %(limit)s is the limit for whoever is not signed in.",
            size=_mebibytes(size),
            limit=_mebibytes(STRANGERS_BYTES),
        ),
        mend=_("Sign in first, or send a valid token."),
    )


def _mebibytes(size: int) -> str:
    return _("%(n)s MiB", n=Figure(size / 2**20, 1)) if size >= 2**20 else _("%(n)s bytes", n=Figure(size))
