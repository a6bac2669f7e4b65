"""From a request to the person behind it: by the session's cookie, or by an API token."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fastapi import Request
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app import logs
from app.accounts import devices, keys
from app.accounts.principal import Principal
from app.db.base import utcnow
from app.db.direct import Direct
from app.db.session import transaction
from app.db.tables import ApiToken, User, UserSession
from app.errors import DomainError
from app.language import _, use
from app.web.deps import Place
from app.web.replies import read_cookie, set_cookie

SESSION_COOKIE = "hone_session"
DEVICE_COOKIE = "hone_device"
_TOUCH_SESSION = timedelta(hours=1)
_TOUCH_TOKEN = timedelta(minutes=1)
"""How old "last used" may be before it is written again: not every request writes."""

LIVE_SESSION = (
    select(
        UserSession.id.label("session_id"),
        UserSession.created_at,
        UserSession.expires_at,
        UserSession.csrf_token,
        User.id,
        User.email,
        User.name,
        User.is_site_admin,
        User.language,
    )
    .join(User, User.id == UserSession.user_id)
    .where(
        UserSession.key_hash == bindparam("key_hash"),
        UserSession.expires_at > bindparam("now"),
        UserSession.created_at > bindparam("oldest"),
        User.is_active,
    )
)
"""Whose session it is, by ``session_values``."""
_BY_SESSION = Direct(LIVE_SESSION)
_BY_TOKEN = Direct(
    text("""
    SELECT t.id AS token_id, t.last_used_at, t.scopes, u.id, u.email, u.name, u.is_site_admin
    FROM api_tokens t JOIN users u ON u.id = t.user_id
    WHERE t.token_hash = :token_hash AND t.revoked_at IS NULL AND coalesce(t.expires_at > :now, true) AND u.is_active
""")
)


class NotSignedInError(DomainError):
    """Nobody, or a key that is not known, has expired or was revoked: the answer does not tell which."""

    code = "not_signed_in"
    status = 401
    title = _("Please sign in")


def from_cookie(request: Request, db: Session) -> Principal | None:
    """Whose session this is; None without a live one. Its expiry slides while it is used, up to its absolute end."""
    values = session_values(request)
    row = None if values is None else _BY_SESSION.first(db, values)
    return None if row is None else from_session(request, db, row)


def session_values(request: Request) -> dict[str, Any] | None:
    """What ``LIVE_SESSION`` asks for, of the request's cookie; None without one."""
    key = read_cookie(request, SESSION_COOKIE)
    if not key or len(key) > 200:
        return None
    now = utcnow()
    oldest = now - timedelta(days=request.app.state.settings.session_max_days)
    return {"key_hash": keys.digest(key), "now": now, "oldest": oldest}


def from_session(request: Request, db: Session, row: Mapping[str, Any]) -> Principal:
    """The person of a row of ``LIVE_SESSION``; the session's expiry slides, up to its absolute end."""
    use(row["language"])
    settings = request.app.state.settings
    unused = utcnow() + timedelta(days=settings.session_days)
    ends = min(unused, row["created_at"] + timedelta(days=settings.session_max_days))
    if row["expires_at"] < ends - _TOUCH_SESSION:
        free = select(UserSession.id).where(UserSession.id == row["session_id"]).with_for_update(skip_locked=True)
        touch = update(UserSession).where(UserSession.id.in_(free.scalar_subquery()))
        db.execute(touch.values(expires_at=ends).execution_options(synchronize_session=False))
        send_session_cookie(request, str(read_cookie(request, SESSION_COOKIE)), ends=ends)
    return _remember(
        request,
        Principal(
            user_id=row["id"],
            email=row["email"],
            name=row["name"],
            is_site_admin=row["is_site_admin"],
            via="session",
            csrf_token=row["csrf_token"],
        ),
    )


def from_bearer(request: Request, db: Session) -> Principal | None:
    """Whose token the Authorization header carries; None where there is no such header.

    Raises:
        NotSignedInError: there is one, and it is not a live token.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    kind, _space, secret = header.partition(" ")
    secret = secret.strip()
    now = utcnow()
    row = None
    if kind.lower() == "bearer" and secret.startswith(keys.TOKEN_PREFIX) and len(secret) < 200:
        row = _BY_TOKEN.first(db, {"token_hash": keys.digest(secret), "now": now})
    if row is None:
        raise NotSignedInError(
            _("The token is not known, has expired or was revoked."),
            mend=_("Send `Authorization: Bearer hone_…` with a token from your account page."),
        )
    if row["last_used_at"] is None or row["last_used_at"] < now - _TOUCH_TOKEN:
        free = select(ApiToken.id).where(ApiToken.id == row["token_id"]).with_for_update(skip_locked=True)
        touch = update(ApiToken).where(ApiToken.id.in_(free.scalar_subquery()))
        db.execute(touch.values(last_used_at=now).execution_options(synchronize_session=False))
    return _remember(
        request,
        Principal(
            user_id=row["id"],
            email=row["email"],
            name=row["name"],
            is_site_admin=row["is_site_admin"],
            via="token",
            scopes=frozenset(row["scopes"]),
            token_id=row["token_id"],
        ),
    )


async def is_known(request: Request) -> bool:
    """Whether the request's cookie or token is somebody's: for what has to be decided before it is read."""
    if "authorization" not in request.headers and session_values(request) is None:
        return False
    place = Place(request.app.state.database_places)
    await place.take()
    try:
        return await run_in_threadpool(_is_known, request)
    finally:
        place.give_back()


def _is_known(request: Request) -> bool:
    with transaction(request.app.state.session_factory) as db:
        try:
            return (from_bearer(request, db) or from_cookie(request, db)) is not None
        except NotSignedInError:
            return False


def send_session_cookie(request: Request, key: str, *, ends: datetime) -> None:
    """Hand the key to the browser, or renew how long it keeps it: until the session ``ends``."""
    set_cookie(request, SESSION_COOKIE, key, max_age_seconds=max(1, round((ends - utcnow()).total_seconds())))


def drop_session_cookie(request: Request) -> None:
    """Let the browser forget the key."""
    set_cookie(request, SESSION_COOKIE, "", max_age_seconds=0)


def device_key(request: Request) -> str | None:
    """The key that this browser was given when somebody last signed in with it."""
    key = read_cookie(request, DEVICE_COOKIE)
    return key if key and len(key) <= 200 else None


def send_device_cookie(request: Request, key: str) -> None:
    """Hand the key to the browser: it is known from now on, and whoever signs in there is not locked out by others."""
    set_cookie(request, DEVICE_COOKIE, key, max_age_seconds=int(devices.KEPT.total_seconds()))


def _remember(request: Request, principal: Principal) -> Principal:
    """For whoever renders or logs this request."""
    logs.also(user=str(principal.user_id))
    request.state.principal = principal
    request.state.csrf_token = principal.csrf_token
    return principal
