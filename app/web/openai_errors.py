"""Errors as clients of OpenAI's API expect them: its statuses, and an ``error`` with its kinds."""

from http import HTTPStatus
from typing import Any

from app.errors import DomainError

OPENAI_PREFIX = "/v1/"
_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def status_there(problem: DomainError) -> int:
    """The status: what is not valid is 400 there, for which its clients have an exception of their own."""
    return HTTPStatus.BAD_REQUEST if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY else problem.status


def openai_error(problem: DomainError) -> dict[str, Any]:
    """What its clients show and branch on, with ``mend`` and ``errors`` beside it.

    ``type`` is one of its kinds, ``code`` ours, ``param`` the first field at fault.
    """
    server = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    errors = problem.extra.get("errors") or []
    return {
        "message": problem.message,
        "type": "server_error" if server else _TYPES.get(problem.status, "invalid_request_error"),
        "param": errors[0]["field"] if errors else None,
        "code": problem.code,
        "mend": problem.mend,
    } | ({"errors": errors} if errors else {})
