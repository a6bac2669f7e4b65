"""Comparing in the API: take a pair, vote, take a vote back, look at your own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext
from app.comparisons import queries, service
from app.comparisons.errors import LeaseEndedError, LeaseNotFoundError
from app.comparisons.records import MAX_KEY_CHARS
from app.comparisons.schemas import ComparisonOut, KeptOut, MyVoteOut, MyVotesPage, ProgressOut, VoteIn, VoteOut
from app.projects.reviewing import reviewing_of
from app.web.deps import Db, without_thread
from app.web.problems import problem

router = APIRouter(prefix="/api/v1", tags=["comparisons"])


@router.post(
    "/projects/{slug}/comparisons/next",
    response_model=ComparisonOut,
    responses={204: {"description": "No pair is ready for you at this moment."}, 409: problem("`project_archived`.")},
)
@without_thread
def take_next(here: Annotated[ProjectContext, access.api_reviewer("votes:write")], db: Db) -> ComparisonOut | Response:
    """Take the next pair to judge. 204 when none is ready: ask again in a few seconds.

    The pair is yours until `lease_expires_at`. Until you vote or it expires, you are given the same one again. You are
    never given a pair twice that you voted on or skipped. Nothing tells which version wrote which answer.
    """
    leased = service.lease_next(db, project=here.project, reviewer_id=here.principal.user_id)
    return (
        Response(status_code=204) if leased is None else ComparisonOut.of(leased, reviewing_of(here.project.reviewing))
    )


@router.get("/projects/{slug}/progress")
def my_progress(here: Annotated[ProjectContext, access.api_reviewer("votes:write")], db: Db) -> ProgressOut:
    """How many pairs you judged today, your goal, and how many wait for you."""
    me = here.principal.user_id
    found = queries.progress(db, project=here.project, reviewer_id=me)
    return ProgressOut(
        mine_today=found.mine_today,
        mine_total=queries.judged(db, project_id=here.project.id, reviewer_id=me),
        goal=found.goal,
        goal_reached=found.goal_reached,
        ready=found.ready,
        ready_or_more=found.ready_or_more,
    )


@router.post(
    "/comparisons/{comparison_id}/keep",
    responses={409: problem("`lease_ended`: the lease has run out, or you have judged the pair.")},
)
def keep(comparison_id: UUID, me: Annotated[Principal, access.api_by_id("votes:write", "reviewer")], db: Db) -> KeptOut:
    """Say that you are still at it: the pair stays yours for another while (the project's `lease_seconds` from now).

    Call it every minute or so while somebody reads. However often, a lease ends after eight times `lease_seconds`.
    """
    _require_reviewer(db, me, comparison_id)
    lease = service.lease_on(db, reviewer_id=me.user_id, comparison_id=comparison_id)
    if lease is None:
        raise LeaseNotFoundError
    until = service.extend_lease(db, reviewer_id=me.user_id, assignment_id=lease)
    if until is None:
        raise LeaseEndedError
    return KeptOut(lease_expires_at=until)


@router.post(
    "/comparisons/{comparison_id}/votes",
    status_code=201,
    responses={
        409: problem(
            "`vote_frozen`: a round has learned from it. `idempotency_key_reused`: sent before with another vote. "
            "`project_archived`: it takes no votes."
        )
    },
)
@without_thread
def vote(
    comparison_id: UUID,
    body: VoteIn,
    me: Annotated[Principal, access.api_by_id("votes:write", "reviewer")],
    db: Db,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=MAX_KEY_CHARS,
            description="A random value of your own for this vote. Sent again with the same vote, it counts once and "
            "is answered as the first time; with another vote it is refused (409 `idempotency_key_reused`).",
        ),
    ] = None,
) -> VoteOut:
    """Say which answer is better, or in which order they stand, and whatever else the project `asks` for.

    What it does not ask for, or asks for and does not get, is refused (422 `vote_invalid`) and nothing is stored.
    Voting again on the same pair changes your choice, until a round has learned from it (409 `vote_frozen`). A vote
    after the lease has run out counts if a place is still free, and is otherwise kept as `surplus`. A pair that was
    never handed to you is 404 `lease_not_found`.
    """
    _require_reviewer(db, me, comparison_id)
    recorded = service.record_vote(
        db,
        reviewer_id=me.user_id,
        comparison_id=comparison_id,
        choice=body.choice,
        idempotency_key=idempotency_key,
        strength=body.strength,
        comment=body.comment,
        reason=body.reason,
        tags=body.tags,
        criteria=body.criteria,
        ranking=body.ranking,
        corrected=body.corrected,
        seconds=body.seconds,
        source="api",
    )
    if recorded.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return VoteOut.of(recorded)


@router.delete(
    "/comparisons/{comparison_id}/votes/mine",
    responses={
        409: problem("`vote_frozen`: a round has learned from it. `nothing_to_undo`: you have not voted on it.")
    },
)
def take_back(
    comparison_id: UUID, me: Annotated[Principal, access.api_by_id("votes:write", "reviewer")], db: Db
) -> ComparisonOut:
    """Take your vote on a pair back. The pair is yours to judge again; repeating this changes nothing.

    Possible until a round has learned from it (409 `vote_frozen`). The history keeps what was taken back.
    """
    here = _require_reviewer(db, me, comparison_id)
    leased = service.undo_vote(db, reviewer_id=me.user_id, comparison_id=comparison_id, source="api")
    return ComparisonOut.of(leased, reviewing_of(here.project.reviewing))


@router.get("/projects/{slug}/votes")
def my_votes(
    here: Annotated[ProjectContext, access.api_reviewer("votes:write")],
    db: Db,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MyVotesPage:
    """Your own choices, newest first: one line for each pair, with your latest word on it.

    What everybody chose is an export (`hone export`, or the button on the project's page), for admins.
    """
    found = queries.answers(
        db, project_id=here.project.id, reviewer_id=here.principal.user_id, limit=limit + 1, before=cursor
    )
    items = [MyVoteOut.from_answer(answer) for answer in found[:limit]]
    return MyVotesPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)


def _require_reviewer(db: Db, me: Principal, comparison_id: UUID) -> ProjectContext:
    """Strangers are answered as if there were no such comparison, and so is an id that does not exist."""
    project_id = queries.project_of_comparison(db, comparison_id)
    return access.require_role(db, me, project_id or comparison_id, "reviewer")
