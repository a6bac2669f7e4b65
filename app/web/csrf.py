"""Forms and HTMX requests carry a token that another site cannot know.

Signed in, it is the session's; before that (the sign-in form itself) it is that of a cookie of its own. Requests with
an API token carry none: no browser sends an Authorization header by itself. ``app.web.origin`` checks in addition
where a request comes from.
"""

import hmac
import secrets
from typing import Annotated

from fastapi import Depends, Request

from app.errors import ForbiddenError
from app.language import _
from app.web.replies import read_cookie, set_cookie

FIELD = "csrf_token"
HEADER = "x-csrf-token"
ANONYMOUS_COOKIE = "hone_form"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class CsrfError(ForbiddenError):
    """The token is missing or another one."""

    code = "csrf"
    title = _("This form is out of date")


async def _submitted(request: Request) -> str | None:
    if request.method in SAFE_METHODS:
        return None
    header = request.headers.get(HEADER)
    if header is not None:
        return header
    if request.headers.get("content-type", "").startswith(FORM_TYPES):
        value = (await request.form()).get(FIELD)
        return value if isinstance(value, str) else None
    return None


SubmittedToken = Annotated[str | None, Depends(_submitted)]
"""The token that came with the request, from the header or the form."""


def check_token(request: Request, submitted: str | None, of_session: str | None) -> None:
    """
    Raises:
        CsrfError: an unsafe method without the right token.
    """
    if request.method in SAFE_METHODS:
        return
    expected = of_session or read_cookie(request, ANONYMOUS_COOKIE)
    if not expected or not submitted or not hmac.compare_digest(expected.encode(), submitted.encode()):
        raise CsrfError(
            _("The form's token is missing or belongs to another sign-in."),
            mend=_("Reload the page and send it again. In the API, use a token, which needs none."),
        )


def token_for_forms(request: Request) -> str:
    """The token that forms on this page carry; without a session one is made, with a cookie to match."""
    known: str | None = getattr(request.state, "csrf_token", None)
    if known is None:
        known = read_cookie(request, ANONYMOUS_COOKIE)
        if known is None or not 20 <= len(known) <= 100:
            known = secrets.token_urlsafe(24)
            set_cookie(request, ANONYMOUS_COOKIE, known, max_age_seconds=86_400)
        request.state.csrf_token = known
    return known
