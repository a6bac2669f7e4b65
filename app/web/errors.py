"""Errors into answers, in one place: problem+json for programs, a page or a fragment for people.

Programs get RFC 9457 with a stable ``code``, ``detail`` (what was wrong) and ``mend`` (what to do). People get a page
that says the same; HTMX gets a fragment that lands in the page's live region, whatever it had asked for. Somebody who
has to sign in is taken there and back.
"""

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from psycopg.errors import NumericValueOutOfRange
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DomainError, ForbiddenError, InvalidError, NotFoundError
from app.language import _
from app.web.csrf import SAFE_METHODS
from app.web.lost import surroundings
from app.web.openai_errors import OPENAI_PREFIX, openai_error, status_there
from app.web.rendering import Renderer
from app.web.replies import is_htmx, path_of, safe_next, see_other

log = logging.getLogger("hone.web")

LOGIN = "/login"
CLIENT_CLOSED = 499
"""What other servers log of requests whose client went away."""
_API_PREFIXES = ("/api/", OPENAI_PREFIX)
_NUL = ("NUL (0x00)", "unsupported Unicode escape sequence")
"""What the driver and Postgres say of a null character in a text and in JSON."""
_LONE_SURROGATE = "surrogates not allowed"
"""Python's reason, when the driver writes a text that JSON may hold and UTF-8 may not."""
_PROBES = ("/healthz", "/readyz")


class DatabaseAwayError(DomainError):
    """Postgres does not answer, or not in time."""

    code = "database_unavailable"
    status = 503
    title = _("Back in a moment")


class NotJsonError(DomainError):
    """A body in another format than the API reads."""

    code = "unsupported_media_type"
    status = 415
    title = _("Not JSON")


class UnexpectedError(DomainError):
    """A defect of ours."""

    code = "unexpected"
    status = 500
    title = _("Something went wrong on our side")


def install(app: FastAPI) -> None:
    """Let the framework's own errors be answered here too."""
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)


def answer(request: Request, error: Exception) -> Response:
    """The one place where an exception becomes an answer."""
    if isinstance(error, ClientDisconnect) or isinstance(error.__cause__, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED)  # they hung up before they had sent it all, and read nothing
    problem = as_domain_error(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s", problem.code, error, exc_info=error if problem.status == 500 else None)
    headers = _headers(problem, error)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    if wants_json(request):
        return problem_json(request, problem, headers)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        return _to_login(request)
    render = Renderer(request, None)
    around: Mapping[str, Any] = {}
    if is_htmx(request):
        headers |= {"HX-Retarget": "#notices", "HX-Reswap": "innerHTML", "HX-Reselect": "unset", "HX-Push-Url": "false"}
    elif problem.status < HTTPStatus.INTERNAL_SERVER_ERROR and problem.status != HTTPStatus.TOO_MANY_REQUESTS:
        around = surroundings(request)
    return render(
        "errors/error.html",
        block="notice",
        status=problem.status,
        headers=headers,
        problem=problem,
        request_id=getattr(request.state, "request_id", ""),
        **around,
    )


def as_domain_error(error: Exception) -> DomainError:
    """What went wrong, in words of ours."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, HTTPException) and isinstance(error.__cause__, DomainError):
        return error.__cause__
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return DatabaseAwayError(
            _("The database does not answer at this moment."),
            mend=_("Wait a few seconds and try again. What was saved before is safe."),
            retry_after_seconds=5,
        )
    if isinstance(error, DataError) and any(words in str(error.orig) for words in _NUL):
        return InvalidError(
            _("A text among what was sent holds a null character, which cannot be stored or looked for."),
            mend=_("Take it out and send it again."),
        )
    if isinstance(error, UnicodeEncodeError) and error.reason == _LONE_SURROGATE:
        return InvalidError(
            _("A text among what was sent holds half a character (a lone surrogate), which cannot be stored."),
            mend=_("Take it out and send it again."),
        )
    if isinstance(error, DataError) and isinstance(error.orig, NumericValueOutOfRange):
        return InvalidError(
            _("A number among what was sent is larger than any that is stored here."), mend=_("Send a smaller one.")
        )
    if isinstance(error, HTTPException):
        return _from_http(error)
    return UnexpectedError(
        _("The request was not carried out, and nothing of it was saved."),
        mend=_("Try again. If it happens again, tell whoever runs this installation the request id."),
    )


def wants_json(request: Request) -> bool:
    """Whether a program is asking."""
    path = request.url.path
    return (path.startswith(_API_PREFIXES) and not path.startswith("/api/docs")) or path in _PROBES


def problem_json(request: Request, problem: DomainError, headers: dict[str, str]) -> Response:
    """RFC 9457."""
    body: dict[str, Any] = {
        "type": f"urn:hone:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.message,
        "mend": problem.mend,
        "request_id": getattr(request.state, "request_id", None),
    }
    body.update({key: value for key, value in problem.extra.items() if key not in body})
    if request.url.path.startswith(OPENAI_PREFIX):
        body |= {"status": status_there(problem), "error": openai_error(problem)}
        if problem.status == HTTPStatus.CONFLICT:
            headers["X-Should-Retry"] = "false"  # OpenAI's clients send a 409 again unless told otherwise
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    text = json.dumps(body, default=str)  # in ASCII: what was sent, and is told of, may hold half a character
    return Response(text, status_code=body["status"], headers=headers, media_type="application/problem+json")


class ErrorBoundary:
    """Answers whatever nothing else has answered, so that errors too carry their headers and are logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            response = await run_in_threadpool(answer, Request(scope, receive), error)
            await response(scope, receive, send)


def _to_login(request: Request) -> Response:
    """To the sign-in page, and back to where the person is (not to what they posted)."""
    if is_htmx(request):
        here = path_of(request.headers.get("hx-current-url"))
    elif request.method in SAFE_METHODS:
        here = path_of(str(request.url))
    else:
        here = path_of(request.headers.get("referer"))
    target = safe_next(here)
    login = LOGIN if target == "/" else f"{LOGIN}?next={quote(target, safe='/')}"
    if request.method in SAFE_METHODS:
        response = see_other(request, login)
    else:
        told = _("You were signed out in the meantime, so that was not saved. Sign in and send it again.")
        if "hone-kept" in request.headers:  # the page keeps what was posted, and posts it again after the sign-in
            told = _(
                "You were signed out in the meantime. Your choice is kept here and is saved when you have signed in."
            )
        response = see_other(request, login, flash=told, tone="info")
    if is_htmx(request):
        response.status_code = HTTPStatus.UNAUTHORIZED
    return response


def _headers(problem: DomainError, error: Exception) -> dict[str, str]:
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    headers |= problem.headers
    seconds = problem.extra.get("retry_after_seconds", getattr(problem, "retry_after_seconds", None))
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))
    return headers


def _methods_of(request: Request) -> set[str]:
    """What the address can be asked with. A framework's refusal names the methods of one route, and there are more."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if getattr(route, "path_regex", None) is not None and route.path_regex.match(request.url.path):
            found |= set(route.methods or ())
    return found | ({"HEAD"} if "GET" in found else set())


def _invalid(error: RequestValidationError) -> DomainError:
    """Names the fields. Never repeats the input: it may be a password."""
    if any(item["loc"] == ("body",) and isinstance(item.get("input"), bytes) for item in error.errors()):
        return NotJsonError(
            _("The body was not read as JSON, because its Content-Type does not say that it is."),
            mend=_("Send it with the header Content-Type: application/json."),
        )
    errors = [_field_error(item) for item in error.errors()]
    told = "; ".join(
        item["message"] if item["field"] == "body" else f"{item['field']}: {item['message']}" for item in errors[:5]
    )
    return InvalidError(f"{told}.", mend=_("Correct it and send it again."), errors=errors)


def _field_error(item: dict[str, Any]) -> dict[str, str]:
    if item["type"] == "json_invalid":
        return {"field": "body", "message": f"{item['msg']} at character {item['loc'][-1]}: {item['ctx']['error']}"}
    # Of alternatives the place names the type as well, such as 'constrained-int' or 'dict[…]': words of Python's.
    parts = [str(part) for part in item["loc"] if part != "body"]
    named = [part for part in parts if not any(sign in part for sign in ("[", "constrained-"))]
    # A rule of ours is told in its own words, without the library's "Value error, " before them.
    message = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
    return {"field": ".".join(named) or "body", "message": message}


def _from_http(error: HTTPException) -> DomainError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(_("There is nothing at this address."), mend=_("Check it, or start from the first page."))
    if error.status_code == HTTPStatus.FORBIDDEN:
        return ForbiddenError(str(error.detail))
    phrase = HTTPStatus(error.status_code).phrase
    problem = DomainError(str(error.detail) if error.detail != phrase else f"{phrase}.")
    problem.status = error.status_code
    problem.title = phrase
    problem.code = phrase.lower().replace(" ", "_").replace("-", "_")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        problem.mend = _("Use one of the methods that the header Allow names.")
    if error.status_code == HTTPStatus.BAD_REQUEST:
        problem.mend = _("Correct it and send it again.")
    return problem
