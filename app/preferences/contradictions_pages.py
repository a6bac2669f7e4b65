"""Where admins settle contradictions: the list, one pair as reviewers see it, and what was decided."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from pydantic import BeforeValidator
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons.desk import buttons, is_long, said, shown_answers
from app.comparisons.records import FLAG_REASONS, SKIP_REASONS
from app.language import _
from app.preferences import adjudication, contradictions
from app.preferences.adjudication import (
    AlreadySettledError,
    DecisionInvalidError,
    NotContestedError,
    NotSettledError,
    Outcome,
)
from app.preferences.contradictions import Age, Filter
from app.preferences.pages import LEFT_OUT
from app.projects.aggregation import OVERALL, WEIGHTED, CriterionKey, aggregation_of
from app.projects.reviewing import Reviewing, reviewing_of
from app.reviewers.queries import people
from app.web.deps import Db, Render, see_other

router = APIRouter(prefix="/p/{slug}/preferences/contradictions", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]
Blank = BeforeValidator(lambda value: value or None)  # a select of which nothing was chosen
PAGE_SIZE = 25

_LEFT = _("Left as it is")


def _wanted(
    criterion: Annotated[CriterionKey | None, Blank] = None,
    reviewer: Annotated[UUID | None, Blank] = None,
    age: Annotated[Age | None, Blank] = None,
) -> Filter:
    return Filter(criterion, reviewer, age)


Wanted = Annotated[Filter, Depends(_wanted)]


@router.get("")
def listed(
    here: Here, db: Db, render: Render, wanted: Wanted, page: Annotated[int, Query(ge=1, le=10_000)] = 1
) -> HTMLResponse:
    """What waits, the most contested first."""
    me = here.principal.user_id
    found = contradictions.waiting(db, here.project, me, wanted, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    return render(
        "preferences/contradictions.html",
        **_about(here, wanted),
        waiting=found[:PAGE_SIZE],
        page=page,
        more=len(found) > PAGE_SIZE,
        people=[(person.id, person.name or person.email) for person in people(db, here.project)],
    )


@router.get("/decided")
def decided(here: Here, db: Db, render: Render, before: UUID | None = None) -> HTMLResponse:
    """What was decided, withdrawn or not, the newest first."""
    found = adjudication.decided(db, here.project, limit=PAGE_SIZE + 1, before=before)
    return render(
        "preferences/decided.html",
        **_about(here, Filter()),
        decided=found[:PAGE_SIZE],
        older=found[PAGE_SIZE - 1].decision.id if len(found) > PAGE_SIZE else None,
        first_page=before is None,
    )


@router.get("/{comparison_id}")
def one(
    here: Here,
    comparison_id: UUID,
    db: Db,
    render: Render,
    wanted: Wanted,
    reveal: Annotated[Literal["", "1"], Query(alias="said")] = "",
) -> HTMLResponse:
    """One pair, blind, and what reviewers said of it once that is asked for or a decision stands."""
    project, me = here.project, here.principal.user_id
    pair, decisions = adjudication.shown(db, project, comparison_id, me)
    stands = decisions[0] if decisions and decisions[0].withdrawn_at is None else None
    order = contradictions.order(db, project, wanted)
    last = next((item for item in adjudication.decided(db, project, limit=1) if item.decision.decided_by == me), None)
    asks = _asks(reviewing_of(project.reviewing))
    trained = aggregation_of(project.aggregation).criteria
    return render(
        "preferences/contradiction.html",
        **_about(here, wanted),
        pair=pair,
        shown=shown_answers(pair.answers),
        folded=is_long(pair.answers),
        asked_at_length=is_long((pair.messages[-1]["content"],)),
        asks=asks,
        buttons=buttons(asks, "pair"),
        before=None,
        taken_back=False,
        place=order.index(comparison_id) + 1 if comparison_id in order else None,
        count=len(order),
        following=_following(order, comparison_id),
        decisions=decisions,
        stands=stands,
        revealed=bool(reveal) or stands is not None,
        asked=bool(reveal),
        mine=any(word.reviewer_id == me for word in pair.words),
        last=last.decision if last and last.decision.withdrawn_at is None else None,
        trained=trained if trained not in (OVERALL, WEIGHTED) else None,
        reasons=FLAG_REASONS | SKIP_REASONS,
        left_out=LEFT_OUT,
    )


@router.post("/{comparison_id}")
def decide(
    here: Here,
    comparison_id: UUID,
    request: Request,
    db: Db,
    wanted: Wanted,
    choice: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    saw: Annotated[str, Form(alias="said")] = "",
) -> Response:
    """Decide, and go on with the pair that comes next in the list."""
    project = here.project
    following = _following(contradictions.order(db, project, wanted), comparison_id)
    made, strength = _choice(choice)
    try:
        adjudication.decide(
            db,
            project,
            comparison_id,
            choice=made,
            strength=strength,
            note=note.replace("\r\n", "\n"),
            saw_votes=bool(saw),
            actor=here.principal.user_id,
        )
    except AlreadySettledError:
        problem = _("Another admin has settled this pair meanwhile. What you chose is not stored.")
        return see_other(request, _at(here, wanted, comparison_id), flash=problem, tone="bad")
    except NotContestedError as error:
        return see_other(request, _at(here, wanted, comparison_id), flash=error.message, tone="bad")
    if following is None:
        told = _("Settled: %(choice)s. No other pair waits.", choice=_in_words(made, strength))
        return see_other(request, _at(here, wanted), flash=told)
    told = _("Settled: %(choice)s. Here is the next pair.", choice=_in_words(made, strength))
    return see_other(request, _at(here, wanted, following), flash=told)


@router.post("/{comparison_id}/withdraw")
def withdraw(here: Here, comparison_id: UUID, request: Request, db: Db, wanted: Wanted) -> Response:
    """Take a decision back."""
    at = _at(here, wanted, comparison_id)
    try:
        adjudication.withdraw(db, here.project, comparison_id, actor=here.principal.user_id)
    except NotSettledError:
        told = _("The decision was withdrawn before.")
        return see_other(request, at, flash=told, tone="info")
    return see_other(request, at, flash=_("Withdrawn. The votes speak again, and the pair waits again."))


def _about(here: ProjectContext, wanted: Filter) -> dict[str, Any]:
    return {
        "project": here.project,
        "labels": {criterion.key: criterion.label for criterion in reviewing_of(here.project.reviewing).criteria},
        "wanted": wanted,
        "asking": _asking(wanted),
        "in_words": _in_words,
    }


def _asks(asks: Reviewing) -> Reviewing:
    """What an admin is asked: a choice, always with tie and both bad, and a note."""
    scale = "strength" if asks.scale == "strength" else "ab_tie_bad"
    return Reviewing(scale=scale)


def _in_words(choice: str, strength: int | None) -> str:
    """What somebody said or decided."""
    return _LEFT if choice == "leave" else said(choice, strength)  # type: ignore[arg-type]


def _choice(value: str) -> tuple[Outcome, int | None]:
    name, _colon, detail = value.partition(":")
    for choice in get_args(Outcome):
        if choice == name and detail in ("", "1", "2", "3"):
            return choice, int(detail) if detail else None
    raise DecisionInvalidError(
        _("The choice %(value)s is unknown.", value=repr(value)), mend=_("Choose with one of the buttons of the page.")
    )


def _following(order: Sequence[UUID], comparison_id: UUID) -> UUID | None:
    """The next one that waits, from the top again after the last; null where no other waits."""
    ids = list(order)
    place = ids.index(comparison_id) if comparison_id in ids else -1
    others = ids[place + 1 :] + ids[: max(place, 0)]
    return others[0] if others else None


def _asking(wanted: Filter) -> str:
    """The filter as the end of an address."""
    given = {"criterion": wanted.criterion, "reviewer": wanted.reviewer_id, "age": wanted.age}
    return urlencode({name: value for name, value in given.items() if value})


def _at(here: ProjectContext, wanted: Filter, comparison_id: UUID | None = None) -> str:
    end = "" if comparison_id is None else f"/{comparison_id}"
    asking = _asking(wanted)
    return f"/p/{here.project.slug}/preferences/contradictions{end}{'?' + asking if asking else ''}"
