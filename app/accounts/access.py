"""Who may call a route: one guard on each, as a parameter's type or in ``dependencies``.

    def page(ctx: Annotated[ProjectContext, access.reviewer()], ...)    # /p/{slug}/…, signed in by cookie
    def post(me: Annotated[Principal, access.api("prompts:write")], ...)    # bearer token, or cookie with CSRF token
    @router.get("/about", dependencies=[access.public()])

For API routes that find a project by an id, mark the role and check it with what was found::

    def promote(version_id: UUID, me: Annotated[Principal, access.api_by_id("versions:write", "admin")], db: Db):
        version = ...
        access.require_role(db, me, version.project_id, "admin")

Strangers to a project are told that there is no such thing (404), members whose role is not enough that they may not
(403), and nobody at all that they have to sign in (401; on pages the way to sign in).
"""

from functools import cache
from typing import Any
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from app import logs
from app.accounts import identity
from app.accounts.principal import Principal, ProjectContext, Role
from app.accounts.scopes import SCOPES
from app.db.tables import Membership, Project, User
from app.db.waiting import on_loop
from app.errors import ForbiddenError, NotFoundError
from app.language import _
from app.web.csrf import SubmittedToken, check_token
from app.web.deps import Db
from app.web.guard import Guard, Rule, public

__all__ = [
    "admin",
    "api",
    "api_admin",
    "api_by_id",
    "api_reviewer",
    "api_site_admin",
    "no_such_thing",
    "optional",
    "public",
    "require_role",
    "reviewer",
    "signed_in",
    "site_admin",
]


class MissingScopeError(ForbiddenError):
    """The token was not made for this."""

    code = "missing_scope"
    title = _("The token does not reach that far")


class _Caller(Guard):
    """Anybody; knows who it is if they are signed in. For pages such as the sign-in page."""

    async def __call__(self, request: Request, db: Db, submitted: SubmittedToken) -> Principal | None:
        return await on_loop(self._caller, request, db, submitted)

    def _caller(self, request: Request, db: Session, submitted: str | None) -> Principal | None:
        found = identity.from_cookie(request, db)
        check_token(request, submitted, found.csrf_token if found else None)
        return found


class _SignedIn(Guard):
    """Somebody with a session, or in the API with a token of the right scope."""

    async def __call__(self, request: Request, db: Db, submitted: SubmittedToken) -> Principal:
        return await on_loop(self._principal, request, db, submitted)

    def _principal(self, request: Request, db: Session, submitted: str | None) -> Principal:
        principal = identity.from_bearer(request, db) if self.rule.door == "api" else None
        return self._checked(request, submitted, principal or identity.from_cookie(request, db))

    def _checked(self, request: Request, submitted: str | None, principal: Principal | None) -> Principal:
        if principal is None:
            raise identity.NotSignedInError(_("Nobody is signed in."), mend=_("Sign in, or send a token as a bearer."))
        if principal.via == "session":
            check_token(request, submitted, principal.csrf_token)
        if self.rule.scope is not None and not principal.allows(self.rule.scope):
            raise MissingScopeError(
                _(
                    "The token has the scopes %(scopes)s; this needs %(scope)s.",
                    scopes=", ".join(sorted(principal.scopes or ())),
                    scope=self.rule.scope,
                ),
                mend=_("Make a token with %(scope)s on your account page.", scope=self.rule.scope),
                scope=self.rule.scope,
            )
        if self.rule.who == "site_admin" and not principal.is_site_admin:
            raise ForbiddenError(_("Only site admins may do this."), mend=_("Ask one of them."))
        return principal


class _InProject(_SignedIn):
    """Somebody with a role in the project that the path's ``slug`` names."""

    async def __call__(  # type: ignore[override]
        self, request: Request, db: Db, submitted: SubmittedToken, slug: str
    ) -> ProjectContext:
        return await on_loop(self._in_project, request, db, submitted, slug)

    def _in_project(self, request: Request, db: Session, submitted: str | None, slug: str) -> ProjectContext:
        principal, project, role = self._found(request, db, submitted, slug)
        if project is None or (role is None and not principal.is_site_admin):  # one answer: a stranger learns nothing
            raise NotFoundError(_("There is no project %(slug)s of yours.", slug=repr(slug)), mend=_NOT_YOURS)
        context = _context(principal, project, role, "admin" if self.rule.who == "admin" else "reviewer")
        request.state.project_context = context
        return context

    def _found(
        self, request: Request, db: Session, submitted: str | None, slug: str
    ) -> tuple[Principal, Project | None, str | None]:
        values = row = None
        if self.rule.door != "api" or "authorization" not in request.headers:
            values = identity.session_values(request)
        if values is not None:  # session, project and role in one round trip
            row = db.execute(_BY_SESSION_AND_SLUG, values | {"slug": slug}).mappings().one_or_none()
        if row is not None:
            principal = self._checked(request, submitted, identity.from_session(request, db, dict(row)))
            return principal, row["Project"], row["role"]
        principal = self._principal(request, db, submitted)  # by a token; without one it says that nobody is signed in
        found = db.execute(_BY_SLUG, {"user": principal.user_id, "slug": slug}).one_or_none()
        return (principal, *found) if found else (principal, None, None)


_mine = and_(Membership.project_id == Project.id, Membership.user_id == bindparam("user"))
_IN_PROJECT = select(Project, Membership.role).outerjoin(Membership, _mine)
_BY_SLUG = _IN_PROJECT.where(Project.slug == bindparam("slug"))
_BY_ID = _IN_PROJECT.where(Project.id == bindparam("project"))
_BY_SESSION_AND_SLUG = (
    identity.LIVE_SESSION.add_columns(Project, Membership.role)
    .outerjoin(Project, Project.slug == bindparam("slug"))
    .outerjoin(Membership, and_(Membership.project_id == Project.id, Membership.user_id == User.id))
)
_NOT_YOURS = _("Check the address. If somebody shared it with you, ask a project admin to add you.")


def no_such_thing() -> NotFoundError:
    """The one answer to ids of other people's projects and to ids of nothing, so that they cannot be told apart."""
    return NotFoundError(_("There is no such thing in a project of yours."), mend=_NOT_YOURS)


def require_role(db: Session, principal: Principal, project_id: UUID, role: Role) -> ProjectContext:
    """The caller in that project.

    Raises:
        NotFoundError: not a member, or no such project.
        ForbiddenError: a member whose role is not enough.
    """
    found = db.execute(_BY_ID, {"user": principal.user_id, "project": project_id}).one_or_none()
    if found is None:
        raise no_such_thing()
    return _context(principal, found[0], found[1], role)


def role_in(db: Session, principal: Principal, slug: str) -> ProjectContext | None:
    """The caller in the project of that name; None where there is none of theirs."""
    found = db.execute(_BY_SLUG, {"user": principal.user_id, "slug": slug}).one_or_none()
    if found is None or (found[1] is None and not principal.is_site_admin):
        return None
    return _context(principal, found[0], found[1], "reviewer")


def _context(principal: Principal, project: Project, membership: str | None, wanted: Role) -> ProjectContext:
    """``membership``: the caller's role as a member; None for whoever is none."""
    role: Role
    if principal.is_site_admin:
        role = "admin"
    elif membership is None:
        raise no_such_thing()
    else:
        role = "admin" if membership == "admin" else "reviewer"
    logs.also(project=str(project.id), slug=project.slug)
    if wanted == "admin" and role != "admin":
        raise ForbiddenError(_("Only admins of %(name)s may do this.", name=project.name), mend=_("Ask one of them."))
    return ProjectContext(principal=principal, project=project, role=role)


@cache
def optional() -> Any:
    """Anybody; ``Principal | None``."""
    return Depends(_Caller(Rule("anyone")))


@cache
def signed_in() -> Any:
    """Whoever is signed in on a page; ``Principal``."""
    return Depends(_SignedIn(Rule("signed_in")))


@cache
def site_admin() -> Any:
    """A site admin on a page; ``Principal``."""
    return Depends(_SignedIn(Rule("site_admin")))


@cache
def reviewer() -> Any:
    """A member of the project ``slug``, whatever the role; ``ProjectContext``."""
    return Depends(_InProject(Rule("reviewer", project_by="slug")))


@cache
def admin() -> Any:
    """An admin of the project ``slug``; ``ProjectContext``."""
    return Depends(_InProject(Rule("admin", project_by="slug")))


@cache
def api(scope: str) -> Any:
    """In the API, anybody whose key reaches as far as ``scope``; ``Principal``."""
    return Depends(_SignedIn(Rule("signed_in", "api", _known(scope))))


@cache
def api_site_admin(scope: str) -> Any:
    """In the API, a site admin; ``Principal``."""
    return Depends(_SignedIn(Rule("site_admin", "api", _known(scope))))


@cache
def api_reviewer(scope: str) -> Any:
    """In the API, a member of the project ``slug``; ``ProjectContext``."""
    return Depends(_InProject(Rule("reviewer", "api", _known(scope), "slug")))


@cache
def api_admin(scope: str) -> Any:
    """In the API, an admin of the project ``slug``; ``ProjectContext``."""
    return Depends(_InProject(Rule("admin", "api", _known(scope), "slug")))


@cache
def api_by_id(scope: str, role: Role) -> Any:
    """In the API, a caller of whom the route itself asks ``role`` by ``require_role``; ``Principal``."""
    return Depends(_SignedIn(Rule(role, "api", _known(scope), "id")))


def _known(scope: str) -> str:
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; known are {', '.join(SCOPES)}")
    return scope
