"""Reviewers and checks in the API, for admins."""

from random import SystemRandom
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import TypeAdapter
from starlette.responses import StreamingResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.prompts.conversations import normalise
from app.reviewers import controls, download, service
from app.reviewers.check_schemas import AttentionIn, CheckIn, CheckOut, ChecksPage, MadeOut, PromoteIn
from app.reviewers.report import line, report
from app.reviewers.schemas import QuarantineIn, ReleasedOut, ReviewerChange, ReviewerOut, ReviewersOut
from app.reviewers.sides import sides
from app.reviewers.work import work
from app.reviewers.work_schemas import WorkOut
from app.web import cursors
from app.web.deps import AppSettings, Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1/projects/{slug}", tags=["reviewers"])

_PLACE: TypeAdapter[controls.Place] = TypeAdapter(controls.Place)
Reading = Annotated[ProjectContext, access.api_admin("projects:read")]
Writing = Annotated[ProjectContext, access.api_admin("projects:write")]


@router.get("/reviewers")
def reviewers(here: Reading, db: Db) -> ReviewersOut:
    """Figures of every reviewer, with intervals, and whom the votes speak against.

    Suspicions are computed from all votes; nothing follows from them unless the project asks for it (`bad_faith`).
    """
    return ReviewersOut.of(report(db, here.project), sides(db, here.project))


@router.get(
    "/reviewers.csv",
    response_class=StreamingResponse,
    responses={200: {"description": "A head line, then a line for each reviewer.", "content": {"text/csv": {}}}},
)
def reviewers_as_table(here: Reading, db: Db) -> StreamingResponse:
    """The same figures as CSV; a cell is empty where nothing can be said."""
    return download.table(db, here.project)


@router.get("/reviewers/work")
def work_of_all(here: Reading, db: Db) -> WorkOut:
    """How much everybody judged of late, checks included, and how agreement moves from week to week."""
    return WorkOut.of(work(db, here.project))


@router.patch("/reviewers/{user_id}")
def change(here: Writing, user_id: UUID, body: ReviewerChange, db: Db) -> ReviewerOut:
    """Let a reviewer past the qualification round or send them back to it; give them a daily goal."""
    actor = here.principal.user_id
    if body.qualification is not None:
        service.set_qualification(db, here.project, user_id, body.qualification, actor=actor)
    if "daily_goal" in body.model_fields_set:
        service.set_goal(db, here.project, user_id, body.daily_goal, actor=actor)
    return ReviewerOut.of(line(db, here.project, service.reviewer(db, here.project, user_id)))


@router.post(
    "/reviewers/{user_id}/quarantine", responses={409: problem("`reviewer_paused`: the reviewer is in quarantine.")}
)
def quarantine(here: Writing, user_id: UUID, body: QuarantineIn, db: Db) -> ReviewerOut:
    """Pause a reviewer. Votes that no round has read are set aside and their places go back to the queue."""
    service.quarantine(db, here.project, user_id, reason=body.reason, actor=here.principal.user_id)
    return ReviewerOut.of(line(db, here.project, service.reviewer(db, here.project, user_id)))


@router.post(
    "/reviewers/{user_id}/release",
    responses={409: problem("`reviewer_not_paused`: the reviewer is not in quarantine.")},
)
def release(here: Writing, user_id: UUID, db: Db) -> ReleasedOut:
    """End a quarantine. Votes whose places are still free count again; the others stay as surplus."""
    released = service.release(db, here.project, user_id, actor=here.principal.user_id)
    return ReleasedOut(counted=released.counted, surplus=released.surplus, read=released.read)


@router.get("/checks")
def checks(
    here: Reading,
    db: Db,
    cursor: cursors.Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: cursors.Offset = 0,
) -> ChecksPage:
    """Pairs with a known answer, and how often reviewers found it. Those in use come first, newest first."""
    after = cursors.unpack(cursor, _PLACE, offset=offset)
    found = controls.listed(db, here.project, limit=limit + 1, offset=offset, after=after)
    shown, more = found[:limit], len(found) > limit
    return ChecksPage(
        items=[CheckOut.model_validate(item) for item in shown],
        next_cursor=cursors.pack(shown[-1].place) if more else None,
        next_offset=offset + limit if more and after is None else None,
    )


@router.post(
    "/checks", status_code=201, responses={409: problem("`check_exists`: there is one of the same two answers.")}
)
def add_check(here: Writing, body: CheckIn, db: Db, settings: AppSettings) -> MadeOut:
    """Add a pair whose better answer is known. It is given to each reviewer at most once, at the project's share."""
    turns = [{"role": "user", "content": body.prompt}] if body.messages is None else None
    messages = turns or [message.model_dump() for message in body.messages or []]
    controls.add(
        db,
        here.project,
        kind=body.kind,
        messages=normalise(messages, max_chars=settings.max_prompt_chars),
        better=body.better,
        worse=body.worse,
        note=body.note,
        actor=here.principal.user_id,
    )
    return MadeOut(made=1)


@router.post("/checks/promote")
def promote(here: Writing, body: PromoteIn, db: Db) -> MadeOut:
    """Make gold out of pairs on which reviewers agreed without exception. Nobody who judged one is given it."""
    made = controls.promote_unanimous(
        db, here.project, fewest_votes=body.fewest_votes, most=body.most, actor=here.principal.user_id
    )
    return MadeOut(made=len(made))


@router.post("/checks/attention", responses={422: problem("`check_invalid`: too few prompts have an answer yet.")})
def attention(here: Writing, body: AttentionIn, db: Db) -> MadeOut:
    """Make attention pairs: an answer to its prompt, beside one that belongs to another."""
    made = controls.make_attention(db, here.project, count=body.count, rng=SystemRandom(), actor=here.principal.user_id)
    return MadeOut(made=len(made))


@router.delete("/checks/{check_id}", status_code=204)
def retire(here: Writing, check_id: UUID, db: Db) -> None:
    """Give it to nobody any more. What was said of it stays in the figures."""
    controls.retire(db, here.project, check_id, actor=here.principal.user_id)
