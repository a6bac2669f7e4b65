"""From a request to the person behind it: by the session's cookie, or by an API token."""

from datetime import timedelta

from fastapi import Request
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.accounts import keys
from app.accounts.principal import Principal
from app.db.base import utcnow
from app.db.direct import Direct
from app.db.tables import ApiToken, UserSession
from app.errors import DomainError
from app.language import _, use
from app.web.replies import read_cookie, set_cookie

SESSION_COOKIE = "hone_session"
_TOUCH_SESSION = timedelta(hours=1)
_TOUCH_TOKEN = timedelta(minutes=1)
"""How old "last used" may be before it is written again: not every request writes."""

_BY_SESSION = Direct(
    text("""
    SELECT s.id AS session_id, s.expires_at, s.csrf_token, u.id, u.email, u.name, u.is_site_admin, u.language
    FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.key_hash = :key_hash AND s.expires_at > :now AND u.is_active
""")
)
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
    """Whose session this is; None without a live one. The session's expiry slides while it is used."""
    key = read_cookie(request, SESSION_COOKIE)
    if not key or len(key) > 200:
        return None
    now = utcnow()
    row = _BY_SESSION.first(db, {"key_hash": keys.digest(key), "now": now})
    if row is None:
        return None
    use(row["language"])
    lifetime = timedelta(days=request.app.state.settings.session_days)
    if row["expires_at"] < now + lifetime - _TOUCH_SESSION:
        free = select(UserSession.id).where(UserSession.id == row["session_id"]).with_for_update(skip_locked=True)
        touch = update(UserSession).where(UserSession.id.in_(free.scalar_subquery()))
        db.execute(touch.values(expires_at=now + lifetime).execution_options(synchronize_session=False))
        send_session_cookie(request, key)
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


def send_session_cookie(request: Request, key: str) -> None:
    """Hand the key to the browser, or renew how long it keeps it."""
    days = request.app.state.settings.session_days
    set_cookie(request, SESSION_COOKIE, key, max_age_seconds=days * 86_400)


def drop_session_cookie(request: Request) -> None:
    """Let the browser forget the key."""
    set_cookie(request, SESSION_COOKIE, "", max_age_seconds=0)


def _remember(request: Request, principal: Principal) -> Principal:
    """For whoever renders or logs this request."""
    request.state.principal = principal
    request.state.csrf_token = principal.csrf_token
    return principal
