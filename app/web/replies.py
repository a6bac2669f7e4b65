"""Redirects, messages that survive one, cookies, and safe targets."""

import base64
import json
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from fastapi import Request
from starlette.responses import Response

from app.language import say

FLASH_COOKIE = "hone_flash"
_OF_ADDRESSES = "%:/?#[]@!$&'()*+,;="
"""Signs that mean something in an address, or are written out already."""
Tone = Literal["good", "info", "bad"]


def is_htmx(request: Request) -> bool:
    """Whether HTMX asks for a fragment; boosted links and restored history want the whole page."""
    headers = request.headers
    return (
        headers.get("hx-request") == "true"
        and headers.get("hx-boosted") != "true"
        and headers.get("hx-history-restore-request") != "true"
    )


def see_other(request: Request, url: str, *, flash: str | None = None, tone: Tone = "good") -> Response:
    """After a form: go and look at ``url``, and find ``flash`` written there.

    HTMX gets ``HX-Redirect`` instead of a 303, which the browser would follow inside the fragment. Headers are of few
    letters: others are written as browsers write them in addresses.
    """
    url = quote(url, safe=_OF_ADDRESSES)
    if flash is not None:
        set_cookie(request, FLASH_COOKIE, _pack({"text": say(flash), "tone": tone}), max_age_seconds=60)
    if is_htmx(request):
        return Response(status_code=204, headers={"HX-Redirect": url})
    return Response(status_code=303, headers={"Location": url})


def take_flash(request: Request) -> dict[str, str] | None:
    """The message left by the request before, once; its cookie is deleted with this answer."""
    packed = read_cookie(request, FLASH_COOKIE)
    if packed is None:
        return None
    set_cookie(request, FLASH_COOKIE, "", max_age_seconds=0)
    return _unpack(packed)


def safe_next(value: str | None, default: str = "/") -> str:
    """``value`` if it is a path on this very site, else ``default``: never a way to somewhere else."""
    if not value or len(value) > 2000 or not value.startswith("/") or value.startswith(("//", "/\\")):
        return default
    if "\\" in value or any(ord(char) < 0x21 or ord(char) == 0x7F for char in value):
        return default
    try:
        parts = urlsplit(value)
    except ValueError:
        return default
    return default if parts.scheme or parts.netloc else value


def path_of(url: str | None) -> str | None:
    """Path and query of an absolute URL (a Referer, HX-Current-URL), whatever its host."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def cookie_name(request: Request, name: str) -> str:
    """With TLS, ``__Host-``: no subdomain and no plain-HTTP page can set it."""
    return f"__Host-{name}" if request.app.state.settings.secure_cookies else name


def read_cookie(request: Request, name: str) -> str | None:
    """A cookie by its plain name."""
    return request.cookies.get(cookie_name(request, name))


def set_cookie(request: Request, name: str, value: str, *, max_age_seconds: int) -> None:
    """Set a cookie with whatever answer this request gets: HttpOnly, SameSite=Lax, Secure with TLS. 0: delete it."""
    secure = "; Secure" if request.app.state.settings.secure_cookies else ""
    line = f"{cookie_name(request, name)}={value}; Max-Age={max_age_seconds}; Path=/; HttpOnly; SameSite=Lax{secure}"
    pending: dict[str, str] = request.scope.setdefault("state", {}).setdefault("set_cookies", {})
    pending[name] = line


def _pack(data: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode()


def _unpack(packed: str) -> dict[str, str] | None:
    try:
        data: Any = json.loads(base64.urlsafe_b64decode(packed.encode()))
    except (ValueError, RecursionError):  # the second where it is nested too deeply
        return None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        return None
    tone = data.get("tone")
    return {"text": data["text"][:500], "tone": tone if tone in ("good", "info", "bad") else "info"}
