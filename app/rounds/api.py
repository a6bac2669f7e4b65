"""Rounds in the API."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext, Role
from app.db.tables import Round
from app.rounds import queries, service
from app.rounds.schemas import EventOut, RoundDetail, RoundIn, RoundOut, RoundPage
from app.web.deps import Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1", tags=["rounds"])

_NOT_NOW = "`round_already_active`, `too_few_votes` (with `votes` and `needed`), or `no_current_version`."

_NO_RETRY = "`round_not_retryable`, `round_already_active`, or `votes_changed` (how many: `votes`)."
_INVALID = "`invalid_round`: `errors` names the training setting that cannot be used, and why."


@router.post("/projects/{slug}/rounds", status_code=202, responses={409: problem(_NOT_NOW), 422: problem(_INVALID)})
def start(
    here: Annotated[ProjectContext, access.api_admin("rounds:write")],
    db: Db,
    response: Response,
    body: RoundIn | None = None,
) -> RoundOut:
    """Start a round: train from the current version on the votes so far.

    With a body, with other training settings than the project's, for this round alone; `processes`, `nodes` and
    `rendezvous` are for site admins.

    It runs in the background; follow it with `GET /api/v1/rounds/{id}`. Refused with 409: `round_already_active`
    (one at a time), `too_few_votes` (with `votes` and `needed`), `no_current_version`.
    """
    settings = None
    if body is not None:
        settings = service.settings_over(here.project, body.training, by_site_admin=here.principal.is_site_admin)
    round_ = service.request_round(
        db, here.project, trigger="api", requested_by=here.principal.user_id, settings=settings
    )
    response.headers["Location"] = f"/api/v1/rounds/{round_.id}"
    return RoundOut.model_validate(round_)


@router.get("/projects/{slug}/rounds")
def list_rounds(
    here: Annotated[ProjectContext, access.api_reviewer("rounds:read")],
    db: Db,
    cursor: Annotated[int | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> RoundPage:
    """Rounds of the project, newest first. Number 0 brought in the base model."""
    page = queries.page(db, here.project, before=cursor, limit=limit)
    return RoundPage(items=[_shown(row, here) for row in page.rounds], next_cursor=page.next_cursor)


@router.get("/rounds/{round_id}")
def read(round_id: UUID, me: Annotated[Principal, access.api_by_id("rounds:read", "reviewer")], db: Db) -> RoundDetail:
    """A round: its state, progress, and after a failure why it failed and what to do.

    The end of the trainer's log (`log_tail`), which may name paths on the server, is for admins only.
    """
    round_, here = _round(db, me, round_id, "reviewer")
    events = [EventOut.model_validate(event) for event in queries.events(db, round_)]
    log_tail = round_.log_tail if here.is_admin else None
    return RoundDetail(**_shown(round_, here).model_dump(), log_tail=log_tail, events=events)


@router.post("/rounds/{round_id}/cancel", responses={409: problem("`round_not_active`.")})
def cancel(round_id: UUID, me: Annotated[Principal, access.api_by_id("rounds:write", "admin")], db: Db) -> RoundOut:
    """Stop a round. One that waits ends at once, one that runs within seconds. The votes it read are new again."""
    round_, _here = _round(db, me, round_id, "admin")
    return RoundOut.model_validate(service.cancel(db, round_, actor=me.user_id))


@router.post("/rounds/{round_id}/retry", responses={409: problem(_NO_RETRY)})
def retry(round_id: UUID, me: Annotated[Principal, access.api_by_id("rounds:write", "admin")], db: Db) -> RoundOut:
    """Try a failed round again, on the same snapshot and from its last checkpoint.

    Refused with 409 `votes_changed` where a vote of its snapshot was changed, taken back or set aside since.
    """
    round_, _here = _round(db, me, round_id, "admin")
    return RoundOut.model_validate(service.retry(db, round_, actor=me.user_id))


def _round(db: Db, me: Principal, round_id: UUID, role: Role) -> tuple[Round, ProjectContext]:
    """The round, and the caller in its project; other projects' rounds are none."""
    round_ = queries.get(db, round_id)
    if round_ is None:
        raise access.no_such_thing()
    return round_, access.require_role(db, me, round_.project_id, role)


def _shown(round_: Round, here: ProjectContext) -> RoundOut:
    """Without the address at which machines meet, for reviewers."""
    told = RoundOut.model_validate(round_)
    if here.is_admin:
        return told
    return told.model_copy(update={"settings": {k: v for k, v in told.settings.items() if k != "rendezvous"}})
