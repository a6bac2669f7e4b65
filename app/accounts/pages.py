"""Pages: signing in and out, one's own account, and for site admins everybody's."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from app.accounts import access, identity, passwords, queries, service
from app.accounts.devices import remember_device
from app.accounts.identity import device_key
from app.accounts.principal import Principal
from app.accounts.scopes import KEEPS, KEPT_FROM_NOW, SCOPES
from app.accounts.throttle import TooManyAttemptsError
from app.accounts.turns import in_turn
from app.db.base import utcnow
from app.db.tables import User
from app.errors import DomainError, InvalidError
from app.journal import audit
from app.language import _, _n, accepted, listed, use
from app.settings import Settings
from app.web.deps import AppSettings, Db, Render, see_other
from app.web.replies import read_cookie, safe_next

router = APIRouter(include_in_schema=False)

Me = Annotated[Principal, access.signed_in()]
SiteAdmin = Annotated[Principal, access.site_admin()]
Text = Annotated[str, Form()]
TOKEN_LIFETIMES = (("30", _("30 days")), ("90", _("90 days")), ("365", _("A year")), ("", _("It does not expire")))
_PER_PAGE = 50


@router.get("/login")
def login_page(
    me: Annotated[Principal | None, access.optional()],
    render: Render,
    request: Request,
    next: str = "/",  # noqa: A002
) -> Response:
    """The sign-in form; somebody who is signed in goes on."""
    if me is not None:
        return see_other(request, safe_next(next))
    return render("accounts/login.html", next=safe_next(next), email="", error=None)


@router.post("/login", dependencies=[in_turn(), access.optional()])
def login(
    request: Request,
    db: Db,
    render: Render,
    settings: AppSettings,
    email: Text = "",
    password: Text = "",
    next: Text = "/",  # noqa: A002
) -> Response:
    """Sign in. A failure is rendered, not raised, so that its count is committed."""
    try:
        user = service.authenticate(
            db, email=email, password=password, address=_address(request), device_key=device_key(request)
        )
    except (service.WrongCredentialsError, TooManyAttemptsError) as error:
        seconds = error.extra.get("retry_after_seconds")
        headers = {"Retry-After": str(seconds)} if seconds else {}
        return render(
            "accounts/login.html",
            status=error.status,
            headers=headers,
            next=safe_next(next),
            email=email[:320],
            error=error,
        )
    old_key = read_cookie(request, identity.SESSION_COOKIE)
    if old_key:
        service.end_session(db, old_key)
    _start_session(request, db, user, settings)
    audit.record(db, actor_id=user.id, project_id=None, action="user.sign_in", subject=f"user:{user.id}")
    return see_other(request, safe_next(next))


@router.post("/logout", dependencies=[access.signed_in()])
def logout(request: Request, db: Db) -> Response:
    """Sign out of this browser."""
    service.end_session(db, read_cookie(request, identity.SESSION_COOKIE) or "")
    identity.drop_session_cookie(request)
    return see_other(request, "/login", flash=_("You are signed out."), tone="info")


@router.get("/account")
def account(me: Me, db: Db, render: Render) -> Response:
    """Password and API tokens."""
    return _account(db, render, me)


@router.post("/account/password", dependencies=[in_turn()])
def change_password(
    me: Me,
    request: Request,
    db: Db,
    render: Render,
    settings: AppSettings,
    current: Text = "",
    password: Text = "",
    repeat: Text = "",
    tokens: Text = "",
) -> Response:
    """One's own new password. Every other sign-in ends; this one gets a new key. ``tokens``: they end, too."""
    user = service.get_user(db, me.user_id)
    if password != repeat:
        return _account(db, render, me, status=422, errors={"repeat": _("The two new passwords differ.")})
    try:
        service.change_password(
            db,
            user,
            current=current,
            new=password,
            address=_address(request),
            device_key=device_key(request),
            with_tokens=tokens == "1",
        )
    except service.WrongCredentialsError:
        return _account(db, render, me, status=422, errors={"current": _("This is not your current password.")})
    except (InvalidError, TooManyAttemptsError) as error:
        return _account(db, render, me, status=error.status, errors=_field_errors(error, "current"))
    audit.record(db, actor_id=me.user_id, project_id=None, action="user.password", subject=f"user:{user.id}")
    _start_session(request, db, user, settings)
    return see_other(request, "/account", flash=_("Your password is changed. Other sign-ins were ended."))


@router.post("/account/language")
def choose_language(me: Me, request: Request, db: Db, language: Text = "") -> Response:
    """In which language one reads pages from now on."""
    service.set_language(db, service.get_user(db, me.user_id), language)
    use(language or accepted(request.headers.get("accept-language")))
    return see_other(request, "/account", flash=_("This is the language you chose."))


@router.post("/account/tokens")
def create_token(
    me: Me,
    db: Db,
    render: Render,
    name: Text = "",
    scopes: Annotated[list[str] | None, Form()] = None,
    days: Text = "90",
    keeps: Text = "nothing",
) -> Response:
    """A new API token; its secret is on this one answer and nowhere else."""
    chosen = scopes or []
    typed = {"name": name, "scopes": chosen, "days": days, "keeps": keeps}
    user = service.get_user(db, me.user_id)
    if days not in dict(TOKEN_LIFETIMES):
        return _account(db, render, me, status=422, errors={"days": _("Choose one of these.")}, typed=typed)
    expires_at = utcnow() + timedelta(days=int(days)) if days else None
    try:
        token, secret = service.create_token(
            db, user=user, name=name, scopes=chosen, expires_at=expires_at, keeps=keeps
        )
    except InvalidError as error:
        return _account(db, render, me, status=422, errors=_field_errors(error, "name"), typed=typed)
    audit.record(
        db,
        actor_id=me.user_id,
        project_id=None,
        action="token.create",
        subject=f"token:{token.id}",
        scopes=chosen,
        keeps=keeps,
    )
    return _account(db, render, me, made=token, secret=secret)


@router.post("/account/tokens/{token_id}/keeps")
def set_keeps(token_id: UUID, me: Me, request: Request, db: Db, keeps: Text = "") -> Response:
    """Change what is kept of the chats held with one of one's own tokens."""
    service.set_keeps(db, user_id=me.user_id, token_id=token_id, keeps=keeps)
    subject = f"token:{token_id}"
    audit.record(db, actor_id=me.user_id, project_id=None, action="token.keeps", subject=subject, keeps=keeps)
    return see_other(request, "/account", flash=KEPT_FROM_NOW[keeps])


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(token_id: UUID, me: Me, request: Request, db: Db) -> Response:
    """End one of one's own tokens."""
    service.revoke_token(db, user_id=me.user_id, token_id=token_id)
    audit.record(db, actor_id=me.user_id, project_id=None, action="token.revoke", subject=f"token:{token_id}")
    return see_other(request, "/account", flash=_("The token is revoked."))


@router.get("/admin/users")
def users(me: SiteAdmin, db: Db, render: Render, page: Annotated[int, Query(ge=1, le=100_000)] = 1) -> Response:
    """Everybody who can sign in, or could."""
    return _users(db, render, me, page=page)


@router.post("/admin/users")
def create_user(
    me: SiteAdmin, db: Db, render: Render, email: Text = "", name: Text = "", is_site_admin: Text = ""
) -> Response:
    """A new person with a generated password, which is on this one answer and nowhere else."""
    password = passwords.generate_password()
    try:
        user = service.create_user(db, email=email, password=password, name=name, is_site_admin=is_site_admin == "1")
    except (InvalidError, service.EmailTakenError) as error:
        typed = {"email": email, "name": name, "is_site_admin": is_site_admin == "1"}
        return _users(db, render, me, status=error.status, errors=_field_errors(error, "email"), typed=typed)
    audit.record(db, actor_id=me.user_id, project_id=None, action="user.create", subject=f"user:{user.id}")
    return _users(db, render, me, made=user, secret=password)


@router.post("/admin/users/{user_id}/password")
def reset_password(user_id: UUID, me: SiteAdmin, db: Db, render: Render) -> Response:
    """A new generated password for somebody, shown once; their sign-ins and tokens end."""
    user = service.get_user(db, user_id)
    password = passwords.generate_password()
    service.set_password(db, user, password, with_tokens=True)
    audit.record(db, actor_id=me.user_id, project_id=None, action="user.reset_password", subject=f"user:{user.id}")
    return _users(db, render, me, made=user, secret=password)


@router.post("/admin/users/{user_id}/tokens")
def revoke_all_tokens(user_id: UUID, me: SiteAdmin, request: Request, db: Db) -> Response:
    """End every API token of somebody's."""
    user = service.get_user(db, user_id)
    count = service.revoke_tokens(db, user)
    subject = f"user:{user.id}"
    audit.record(db, actor_id=me.user_id, project_id=None, action="user.revoke_tokens", subject=subject, count=count)
    told = _n(
        "%(count)s token of %(email)s is revoked.",
        "%(count)s tokens of %(email)s are revoked.",
        count,
        count=count,
        email=user.email,
    )
    return see_other(request, "/admin/users", flash=told)


@router.post("/admin/users/{user_id}/active")
def set_active(user_id: UUID, me: SiteAdmin, request: Request, db: Db, active: Text) -> Response:
    """Keep somebody out, or let them in again."""
    user = service.get_user(db, user_id)
    service.set_active(db, user, active == "1")
    action = "user.activate" if active == "1" else "user.deactivate"
    audit.record(db, actor_id=me.user_id, project_id=None, action=action, subject=f"user:{user.id}")
    told = (
        _("%(email)s can sign in again.", email=user.email)
        if active == "1"
        else _("%(email)s is deactivated: sign-ins ended, tokens revoked.", email=user.email)
    )
    return see_other(request, "/admin/users", flash=told)


@router.post("/admin/users/{user_id}/site-admin")
def set_site_admin(user_id: UUID, me: SiteAdmin, request: Request, db: Db, site_admin: Text) -> Response:
    """Make somebody a site admin, or no longer."""
    user = service.get_user(db, user_id)
    service.set_site_admin(db, user, site_admin == "1")
    action = "user.site_admin" if site_admin == "1" else "user.no_site_admin"
    audit.record(db, actor_id=me.user_id, project_id=None, action=action, subject=f"user:{user.id}")
    told = (
        _("%(email)s is a site admin now.", email=user.email)
        if site_admin == "1"
        else _("%(email)s is no site admin any more.", email=user.email)
    )
    return see_other(request, "/admin/users", flash=told)


def _start_session(request: Request, db: Db, user: User, settings: Settings) -> None:
    """Whoever showed a password is signed in here, with keys that this browser did not have before."""
    session, key = service.start_session(db, user, min(settings.session_days, settings.session_max_days))
    identity.send_session_cookie(request, key, ends=session.expires_at)
    identity.send_device_cookie(request, remember_device(db, user, key=device_key(request)))


def _account(db: Db, render: Render, me: Principal, *, status: int = 200, **context: Any) -> Response:
    shown = {
        "tokens": queries.tokens_of(db, me.user_id),
        "own_language": service.get_user(db, me.user_id).language or "",
        "scopes": [(scope, scope, about) for scope, about in SCOPES.items()],
        "lifetimes": TOKEN_LIFETIMES,
        "keeps": tuple(KEEPS.items()),
        "typed": {"name": "", "scopes": [], "days": "90", "keeps": "nothing"},
        "made": None,
        "secret": None,
    }
    return render("accounts/account.html", status=status, **{**shown, **context})


def _users(db: Db, render: Render, me: Principal, *, page: int = 1, status: int = 200, **context: Any) -> Response:
    lines, total = queries.users_page(db, page=page, per_page=_PER_PAGE)
    shown = {
        "lines": lines,
        "total": total,
        "page": page,
        "pages": max(1, -(-total // _PER_PAGE)),
        "me": me,
        "typed": {"email": "", "name": "", "is_site_admin": False},
        "made": None,
        "secret": None,
    }
    return render("accounts/users.html", status=status, **{**shown, **context})


def _field_errors(error: DomainError, default: str) -> dict[str, str]:
    return {error.extra.get("field", default): listed(filter(None, (error.message, error.mend)), " ")}


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None
