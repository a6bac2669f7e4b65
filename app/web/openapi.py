"""The API's description: OpenAPI, built from the routes and from what their guards declare."""

import re
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.responses import JSONResponse

from app.web.guard import guards_of, public
from app.web.openai_errors import OPENAI_PREFIX

PREFIXES = ("/api/", OPENAI_PREFIX)
SUMMARY = "Submit prompts, collect preferences, start rounds and promote versions."
DESCRIPTION: dict[str, Any] = {
    "title": "Hone API",
    "version": "1",
    "openapi_url": None,
    "docs_url": None,
    "redoc_url": None,
}
"""What ``FastAPI`` is made with; its own documentation pages load scripts from elsewhere, so they are off."""

TEXT = """\
Every call carries a token: `Authorization: Bearer hone_…`. Make one on your account page, or with
`hone token create --user you@example.org --scope prompts:write`. It can do what its scopes allow and what its user may.

An error is `application/problem+json`: `code` is stable and meant for programs, `detail` says what was wrong, `mend`
what to do. Another project's ids are answered like ids that do not exist: 404. After 429 and 503, wait as long as
`Retry-After` says. Repeat a vote with the same `Idempotency-Key` as often as you like: it counts once.
"""

TAGS = [
    {"name": "projects", "description": "Alignment efforts, their settings and their members."},
    {"name": "prompts", "description": "Conversations for which answers are compared."},
    {"name": "comparisons", "description": "Two blind answers, leased to a reviewer, and the vote on them."},
    {
        "name": "reviewers",
        "description": "What votes say of who gave them, quarantine, pairs with a known answer.",
    },
    {"name": "rounds", "description": "From preferences to a new version."},
    {"name": "versions", "description": "Models that rounds made; one of them is current."},
    {"name": "chat", "description": "Talk to a project's current version, with any client of OpenAI's API."},
]

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "mend"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:hone:problem:not_found"]},
        "title": {"type": "string", "examples": ["Not found"]},
        "status": {"type": "integer", "examples": [404]},
        "code": {"type": "string", "description": "Stable; for programs.", "examples": ["not_found"]},
        "detail": {"type": "string", "description": "What was wrong.", "examples": ["There is no project 'demo'."]},
        "mend": {"type": "string", "description": "What to do.", "examples": ["Check the address."]},
        "request_id": {"type": ["string", "null"], "description": "Also in the header X-Request-ID and in the log."},
    },
}
_ERRORS = {
    "401": "No token, or one that is not known, has expired or was revoked.",
    "403": "The token's scopes or its user's role do not reach that far.",
    "404": "No such thing in a project of yours.",
    "422": "Understood, and not valid.",
}
_THERE = {"422": "400"}
"""Statuses that are others under ``/v1/``, as OpenAI's clients expect them."""

_SENTENCE = re.compile(r"(?P<first>[^.;:\n]+)[.;:]?(\s|$)")

router = APIRouter(include_in_schema=False)


def operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: the room and what is done there."""
    return "_".join([*map(str, route.tags[:1]), route.name])


@router.get("/api/openapi.json", dependencies=[public()])
def openapi(request: Request) -> JSONResponse:
    """The description of the API, for programs."""
    return JSONResponse(request.app.openapi())


def install(app: FastAPI) -> None:
    """Let ``app.openapi()`` answer with our description."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def build(app: FastAPI) -> dict[str, Any]:
    """The schema of ``/api/`` and ``/v1/``, with the bearer scheme, each operation's scope, and the errors."""
    schema = get_openapi(
        title=app.title,
        version=app.version,
        summary=SUMMARY,
        description=TEXT,
        routes=[route for route in iter_route_contexts(app.routes) if (route.path or "").startswith(PREFIXES)],
        tags=TAGS,
    )
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An API token: `hone_…`."}
    }
    declared = dict(_declared(app))
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            route = declared.get((path, method.upper()))
            if route is not None:
                _describe(operation, route)
        if path.startswith(OPENAI_PREFIX):
            for operation in operations.values():
                told = operation["responses"]
                operation["responses"] = dict(sorted((_THERE.get(code, code), said) for code, said in told.items()))
    return schema


def _describe(operation: dict[str, Any], route: RouteContext) -> None:
    if route.summary is None:  # the first sentence of the docstring says more than the function's name
        told = operation.get("description", "")
        sentence = _SENTENCE.match(told)
        if sentence:
            operation["summary"] = sentence["first"].replace("`", "")
            rest = told[sentence.end() :].strip()
            operation["description"] = rest[:1].upper() + rest[1:] if rest else told
    responses = operation.setdefault("responses", {})
    for status, meaning in _ERRORS.items():
        if status != "422" or status in responses:
            given = responses.get(status, {})
            told = given.get("description", "") if "content" not in given else ""
            responses[status] = {
                "description": told or meaning,
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
    operation["responses"] = dict(sorted(responses.items()))
    scope = next((guard.rule.scope for guard in guards_of(route.dependant)), None)
    if scope is not None:
        operation["security"] = [{"token": []}]
        operation["x-scope"] = scope


def _declared(app: FastAPI) -> Iterator[tuple[tuple[str, str], RouteContext]]:
    for route in iter_route_contexts(app.routes):
        if hasattr(route, "dependant"):
            for method in route.methods or ():
                yield (route.path_format or "", method), route
