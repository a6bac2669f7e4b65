"""Versions in the API."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext, Role
from app.db.tables import Version
from app.rounds import service
from app.versions import queries
from app.versions.schemas import RejectIn, VersionOut, VersionPage
from app.web.deps import AppSettings, Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1", tags=["versions"])

_NOT_PROMOTABLE = "`version_not_promotable`, or `version_damaged`: its files are not what they were."


@router.get("/projects/{slug}/versions")
def list_versions(
    here: Annotated[ProjectContext, access.api_reviewer("versions:read")],
    db: Db,
    cursor: Annotated[int | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> VersionPage:
    """Versions of the project, newest first, with where they came from and how they did."""
    found = [
        item.version for item in queries.lineage(db, here.project) if cursor is None or item.version.number < cursor
    ]
    items = [VersionOut.model_validate(version) for version in found[:limit]]
    return VersionPage(items=items, next_cursor=items[-1].number if len(found) > limit else None)


@router.get("/versions/{version_id}")
def read(
    version_id: UUID, me: Annotated[Principal, access.api_by_id("versions:read", "reviewer")], db: Db
) -> VersionOut:
    """One version."""
    version = _version(db, me, version_id, "reviewer")
    return VersionOut.model_validate(version)


@router.post("/versions/{version_id}/promote", responses={409: problem(_NOT_PROMOTABLE)})
def promote(
    version_id: UUID,
    me: Annotated[Principal, access.api_by_id("versions:write", "admin")],
    db: Db,
    settings: AppSettings,
) -> VersionOut:
    """Make a candidate, or an earlier version, the current one.

    Its files are verified first (409 `version_damaged`). Pairs of the old version that nobody has judged leave the
    queue, and new ones are sampled from the new version. Rolling back is promoting an earlier version.
    """
    version = _version(db, me, version_id, "admin")
    return VersionOut.model_validate(service.promote(db, version, actor=me.user_id, settings=settings))


@router.post("/versions/{version_id}/reject", responses={409: problem("`version_not_rejectable`.")})
def reject(
    version_id: UUID,
    me: Annotated[Principal, access.api_by_id("versions:write", "admin")],
    db: Db,
    body: RejectIn | None = None,
) -> VersionOut:
    """Put a candidate aside for good. Its figures and files stay."""
    version = _version(db, me, version_id, "admin")
    reason = body.reason if body is not None else ""
    return VersionOut.model_validate(service.reject(db, version, actor=me.user_id, reason=reason))


def _version(db: Db, me: Principal, version_id: UUID, role: Role) -> Version:
    """The version, of a project in which the caller has the role; other projects' versions are none."""
    version = queries.get(db, version_id)
    if version is None:
        raise access.no_such_thing()
    access.require_role(db, me, version.project_id, role)
    return version
