"""From a request to the person behind it: by the session's cookie, or by an API token."""

from datetime import timedelta

from fastapi import Request
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts import keys
from app.accounts.principal import Principal
from app.db.base import utcnow
from app.db.tables import ApiToken, User, UserSession
from app.errors import DomainError
from app.language import _, use
from app.web.replies import read_cookie, set_cookie

SESSION_COOKIE = "hone_session"
_TOUCH_SESSION = timedelta(hours=1)
_TOUCH_TOKEN = timedelta(minutes=1)
"""How old "last used" may be before it is written again: not every request writes."""


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
    row = db.execute(
        select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.key_hash == keys.digest(key), UserSession.expires_at > now, User.is_active)
    ).first()
    if row is None:
        return None
    session, user = row
    use(user.language)
    lifetime = timedelta(days=request.app.state.settings.session_days)
    if session.expires_at < now + lifetime - _TOUCH_SESSION:
        free = select(UserSession.id).where(UserSession.id == session.id).with_for_update(skip_locked=True)
        touch = update(UserSession).where(UserSession.id.in_(free.scalar_subquery()))
        db.execute(touch.values(expires_at=now + lifetime).execution_options(synchronize_session=False))
        send_session_cookie(request, key)
    return _remember(
        request,
        Principal(
            user_id=user.id,
            email=user.email,
            name=user.name,
            is_site_admin=user.is_site_admin,
            via="session",
            csrf_token=session.csrf_token,
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
        row = db.execute(
            select(ApiToken, User)
            .join(User, User.id == ApiToken.user_id)
            .where(
                ApiToken.token_hash == keys.digest(secret),
                ApiToken.revoked_at.is_(None),
                func.coalesce(ApiToken.expires_at > now, True),
                User.is_active,
            )
        ).first()
    if row is None:
        raise NotSignedInError(
            _("The token is not known, has expired or was revoked."),
            mend=_("Send `Authorization: Bearer hone_…` with a token from your account page."),
        )
    token, user = row
    if token.last_used_at is None or token.last_used_at < now - _TOUCH_TOKEN:
        free = select(ApiToken.id).where(ApiToken.id == token.id).with_for_update(skip_locked=True)
        touch = update(ApiToken).where(ApiToken.id.in_(free.scalar_subquery()))
        db.execute(touch.values(last_used_at=now).execution_options(synchronize_session=False))
    return _remember(
        request,
        Principal(
            user_id=user.id,
            email=user.email,
            name=user.name,
            is_site_admin=user.is_site_admin,
            via="token",
            scopes=frozenset(token.scopes),
            token_id=token.id,
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
