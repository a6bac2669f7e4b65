"""Projects and their members in the API."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext
from app.db.tables import Project
from app.insights.refill import refill
from app.projects import queries, service
from app.projects.schemas import MemberIn, MemberOut, ProjectChange, ProjectIn, ProjectOut, ProjectPage, RefillOut
from app.rounds import service as rounds
from app.web import cursors
from app.web.deps import Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1/projects", tags=["projects"])

NEXT_CURSOR = "X-Next-Cursor"
"""A header, for the list of members was an array before it came in pages."""
_PLACE = TypeAdapter(tuple[str, str])
"""Role and address of a member."""
_INVALID = "`invalid_project`: `errors` names every field with what is wrong."
_LAST = "`last_admin`: a project keeps at least one admin."


@router.post("", status_code=201, responses={422: problem(_INVALID)})
def create(
    body: ProjectIn, me: Annotated[Principal, access.api_site_admin("projects:write")], db: Db, response: Response
) -> ProjectOut:
    """Make a project. You become its admin.

    The base model is brought in as version 1 by a round of its own (number 0), in the background: follow it with
    `GET /api/v1/projects/{slug}/rounds`. Only site admins may do this. What cannot be used is refused, with every
    error at once in `errors`: a model directory without safetensors, an unknown loss, a setting the loss does not read.
    """
    project = service.create_project(db, **body.model_dump(), created_by=me.user_id)
    rounds.request_import(db, project, requested_by=me.user_id)
    response.headers["Location"] = f"/api/v1/projects/{project.slug}"
    return ProjectOut.model_validate(project)


@router.get("")
def list_projects(
    me: Annotated[Principal, access.api("projects:read")],
    db: Db,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    archived: Annotated[bool, Query(description="Those that are archived, in place of the others.")] = False,
) -> ProjectPage:
    """The projects you take part in, newest first. Site admins take part in all."""
    found = queries.mine(
        db, user_id=me.user_id, is_site_admin=me.is_site_admin, archived=archived, after=cursor, limit=limit + 1
    )
    items = [_shown(item.project, item.role) for item in found[:limit]]
    return ProjectPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)


@router.get("/{slug}")
def read(here: Annotated[ProjectContext, access.api_reviewer("projects:read")]) -> ProjectOut:
    """A project with its settings. Reviewers are not told where its model lies, nor how they are checked."""
    return _shown(here.project, here.role)


@router.patch("/{slug}", responses={409: problem("`base_model_fixed`."), 422: problem(_INVALID)})
def change(
    body: ProjectChange, here: Annotated[ProjectContext, access.api_admin("projects:write")], db: Db
) -> ProjectOut:
    """Change settings; those left out stay. Pairs and rounds that exist already keep the settings they began with.

    Another base model is possible only until version 1 exists (409 `base_model_fixed` after that), and for site admins.
    The training settings `processes`, `nodes` and `rendezvous` are for them, too; when others change `training`, they
    stay.
    """
    project = service.update_project(
        db,
        here.project,
        actor=here.principal.user_id,
        by_site_admin=here.principal.is_site_admin,
        **body.model_dump(exclude_unset=True),
    )
    return ProjectOut.model_validate(project)


@router.post("/{slug}/archive", responses={409: problem("`round_already_active`: wait for it, or cancel it.")})
def archive(here: Annotated[ProjectContext, access.api_admin("projects:write")], db: Db) -> ProjectOut:
    """Put the project aside: it leaves the lists and takes no votes, prompts or rounds (409 `project_archived`).

    Nothing is lost: settings, votes, versions and exports can be read as before.
    """
    return ProjectOut.model_validate(rounds.archive(db, here.project, actor=here.principal.user_id))


@router.post("/{slug}/restore")
def restore(here: Annotated[ProjectContext, access.api_admin("projects:write")], db: Db) -> ProjectOut:
    """Take an archived project back into use. Rounds come at the next time of its schedule."""
    return ProjectOut.model_validate(rounds.restore(db, here.project, actor=here.principal.user_id))


@router.get("/{slug}/refill")
def read_refill(here: Annotated[ProjectContext, access.api_admin("projects:read")], db: Db) -> RefillOut:
    """How new pairs are coming along: what is ready, what stands in the way, and what was refused and why."""
    return RefillOut.model_validate(refill(db, here.project))


@router.get(
    "/{slug}/members",
    responses={
        200: {
            "headers": {
                NEXT_CURSOR: {
                    "description": "Give it as `cursor` to go on; missing at the end.",
                    "schema": {"type": "string"},
                }
            }
        }
    },
)
def list_members(
    here: Annotated[ProjectContext, access.api_admin("projects:read")],
    db: Db,
    response: Response,
    cursor: Annotated[str | None, Query(max_length=2000, description="`X-Next-Cursor` of the page before.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=200, description="Size of a page; left out: everybody.")] = None,
) -> list[MemberOut]:
    """Everybody in the project, admins first, then by address. With `limit`, that many; `X-Next-Cursor` goes on."""
    after = cursors.unpack(cursor, _PLACE)
    found = queries.members(db, here.project, after=after, limit=None if limit is None else limit + 1)
    shown = found[:limit]
    if len(found) > len(shown):
        response.headers[NEXT_CURSOR] = cursors.pack((shown[-1].role, shown[-1].user.email))
    return [_member(member) for member in shown]


@router.put("/{slug}/members", responses={409: problem(_LAST)})
def set_member(
    body: MemberIn, here: Annotated[ProjectContext, access.api_admin("projects:write")], db: Db
) -> MemberOut:
    """Add somebody, or change their role. They need an account first (404 `unknown_person`).

    The last admin of a project stays one (409 `last_admin`).
    """
    user = service.person(db, body.email)
    service.set_member(db, here.project, user, body.role, actor=here.principal.user_id)
    return _member(queries.Member(user, body.role))


@router.delete("/{slug}/members/{user_id}", status_code=204, responses={409: problem(_LAST)})
def remove_member(user_id: UUID, here: Annotated[ProjectContext, access.api_admin("projects:write")], db: Db) -> None:
    """Take somebody out of the project. Their votes stay."""
    service.remove_member(
        db, here.project, queries.member(db, here.project, user_id).user, actor=here.principal.user_id
    )


def _shown(project: Project, role: str) -> ProjectOut:
    told = ProjectOut.model_validate(project)
    return told if role == "admin" else told.for_reviewers()


def _member(member: queries.Member) -> MemberOut:
    user = member.user
    return MemberOut.model_validate({"user_id": user.id, "email": user.email, "name": user.name, "role": member.role})
