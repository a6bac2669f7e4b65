"""Contradictions in the API: what waits, what was said and decided about a pair, deciding, and taking it back."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.preferences import adjudication, contradictions
from app.preferences.contradictions import Age, Filter, Place
from app.preferences.contradictions_schemas import (
    ContradictionOut,
    ContradictionsPage,
    DecidedOut,
    DecisionIn,
    DecisionOut,
    DecisionsPage,
    DisputedOut,
    PastOut,
)
from app.projects.aggregation import CriterionKey
from app.web import cursors
from app.web.deps import Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1/projects/{slug}/preferences", tags=["projects"])

Reading = Annotated[ProjectContext, access.api_admin("export:read")]
Writing = Annotated[ProjectContext, access.api_admin("projects:write")]
_PLACE: TypeAdapter[Place] = TypeAdapter(Place)


@router.get("/contradictions")
def contradicting(
    here: Reading,
    db: Db,
    criterion: Annotated[
        CriterionKey | None, Query(description="About this criterion; left out: about the choice itself.")
    ] = None,
    reviewer: Annotated[UUID | None, Query(description="In which this reviewer has a vote.")] = None,
    age: Annotated[
        Age | None, Query(description="Last vote within 7 days (`week`), 30 days (`month`), or before that (`older`).")
    ] = None,
    cursor: cursors.Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: cursors.Offset = 0,
) -> ContradictionsPage:
    """Pairs on which reviewers contradict each other and that nobody has settled, the most contested first.

    `a` and `b` are in an order of your own, drawn for each pair and person, that stays the same.
    """
    me, wanted = here.principal.user_id, Filter(criterion, reviewer, age)
    after = cursors.unpack(cursor, _PLACE, offset=offset)
    found = contradictions.waiting(db, here.project, me, wanted, limit=limit + 1, offset=offset, after=after)
    shown, more = found[:limit], len(found) > limit
    return ContradictionsPage(
        items=[ContradictionOut.model_validate(item) for item in shown],
        waiting=found[0].waiting if found else len(contradictions.order(db, here.project, wanted)),
        next_cursor=cursors.pack(shown[-1].place) if more else None,
        next_offset=offset + limit if more and after is None else None,
    )


@router.get("/contradictions/{comparison_id}")
def one_contradiction(here: Reading, comparison_id: UUID, db: Db) -> DisputedOut:
    """A pair with everything that reviewers said of it, and every decision about it."""
    return DisputedOut.of(*adjudication.shown(db, here.project, comparison_id, here.principal.user_id))


@router.put(
    "/contradictions/{comparison_id}/decision",
    responses={
        409: problem(
            "`already_settled`: another decision about this pair stands; `not_contested`: reviewers do not contradict "
            "each other on it; `project_archived`: it takes no decisions."
        )
    },
)
def decide(here: Writing, comparison_id: UUID, body: DecisionIn, db: Db) -> DecidedOut:
    """Settle a pair. From then on rounds read the decision, with full weight, in the place of the pair's votes.

    Votes stay as they are. Sent again, it is answered as the first time. To decide otherwise, withdraw it first.
    """
    made = adjudication.decide(db, here.project, comparison_id, actor=here.principal.user_id, **body.model_dump())
    return DecidedOut(id=made)


@router.delete(
    "/contradictions/{comparison_id}/decision",
    status_code=204,
    responses={409: problem("`not_settled`: no decision about this pair stands; `project_archived`.")},
)
def withdraw(here: Writing, comparison_id: UUID, db: Db) -> None:
    """Take the decision back: the votes speak again, and the pair waits again. The decision stays in the history."""
    adjudication.withdraw(db, here.project, comparison_id, actor=here.principal.user_id)


@router.get("/decisions")
def decisions(
    here: Reading,
    db: Db,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
) -> DecisionsPage:
    """What was decided about contradictions, withdrawn or not, the newest first."""
    found = adjudication.decided(db, here.project, limit=limit + 1, before=cursor)
    items = [
        PastOut(decision=DecisionOut.model_validate(item.decision), messages=item.messages, a=item.a, b=item.b)
        for item in found[:limit]
    ]
    return DecisionsPage(items=items, next_cursor=found[limit - 1].decision.id if len(found) > limit else None)
