"""Reviewers on the admin pages: figures and suspicions, one reviewer, and the pairs with a known answer."""

from random import SystemRandom
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.comparisons.checks import gold_ahead
from app.comparisons.desk import order_in_words, said, shown_answers
from app.comparisons.records import FLAG_REASONS, SKIP_REASONS
from app.errors import DomainError
from app.language import _, _n, listed
from app.projects.queue import queue_of
from app.projects.reviewing import reviewing_of
from app.prompts.conversations import from_text
from app.reviewers import answers, controls, download, queries, service
from app.reviewers.report import line, report
from app.reviewers.sides import sides
from app.reviewers.work import DAYS, work
from app.web.deps import AppSettings, Db, Render, see_other

router = APIRouter(prefix="/p/{slug}", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]
PAGE_SIZE = 25
ANSWERS_PER_PAGE = 20


@router.get("/reviewers")
def reviewers(here: Here, db: Db, render: Render) -> HTMLResponse:
    """Everybody, those under suspicion first."""
    return render(
        "reviewers/list.html",
        project=here.project,
        report=report(db, here.project),
        queue=queue_of(here.project.queue),
        controls=controls.counts(db, here.project),
        sides=sides(db, here.project),
    )


@router.get("/reviewers.csv")
def as_table(here: Here, db: Db) -> StreamingResponse:
    """The figures of everybody as CSV."""
    return download.table(db, here.project)


@router.get("/reviewers/work")
def work_of_all(here: Here, db: Db, render: Render) -> HTMLResponse:
    """How far everybody is, and how agreement moves from week to week."""
    return render(
        "reviewers/work.html",
        project=here.project,
        work=work(db, here.project),
        days=DAYS,
    )


@router.get("/reviewers/{user_id}")
def one(here: Here, user_id: UUID, db: Db, render: Render) -> HTMLResponse:
    """One reviewer: every figure, and what was decided about them."""
    person = service.reviewer(db, here.project, user_id)
    shown = line(db, here.project, person)
    others = {other for _, accounts in shown.suspicions for other in accounts}
    return render(
        "reviewers/page.html",
        project=here.project,
        line=shown,
        queue=queue_of(here.project.queue),
        events=queries.events(db, here.project, user_id),
        names={person.id: person.email for person in queries.people(db, here.project) if person.id in others},
    )


@router.get("/reviewers/{user_id}/answers")
def answers_of(
    here: Here, user_id: UUID, db: Db, render: Render, before: Annotated[UUID | None, Query()] = None
) -> HTMLResponse:
    """What one reviewer said, newest first."""
    shown = answers.page(db, here.project, user_id, size=ANSWERS_PER_PAGE, before=before)
    return render(
        "reviewers/answers.html",
        project=here.project,
        person=service.reviewer(db, here.project, user_id),
        answers=[(item, shown_answers(item.answer.shown)) for item in shown.items],
        older=shown.older,
        first_page=before is None,
        labels={criterion.key: criterion.label for criterion in reviewing_of(here.project.reviewing).criteria},
        reasons=FLAG_REASONS | SKIP_REASONS,
        in_words=said,
        order_in_words=order_in_words,
    )


@router.post("/reviewers/{user_id}/quarantine")
def quarantine(
    here: Here, user_id: UUID, request: Request, db: Db, reason: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Pause a reviewer and set their unread votes aside."""
    votes = service.quarantine(db, here.project, user_id, reason=reason, actor=here.principal.user_id)
    told = _n(
        "In quarantine. %(n)s unread vote was set aside.",
        "In quarantine. %(n)s unread votes were set aside.",
        votes.unread,
    )
    if votes.read:
        left_out = _n(
            "%(n)s that a round has read will be left out of later rounds.",
            "%(n)s that rounds have read will be left out of later rounds.",
            votes.read,
        )
        told = listed((told, left_out), " ")
    return _back(request, here, user_id, told)


@router.post("/reviewers/{user_id}/release")
def release(here: Here, user_id: UUID, request: Request, db: Db) -> Response:
    """End a quarantine."""
    released = service.release(db, here.project, user_id, actor=here.principal.user_id)
    told = _n(
        "Released. %(n)s unread vote counts again.", "Released. %(n)s unread votes count again.", released.counted
    )
    if released.surplus:
        others = _n(
            "The place of %(n)s was filled by others, so it is kept as surplus.",
            "The places of %(n)s were filled by others, so they are kept as surplus.",
            released.surplus,
        )
        told = listed((told, others), " ")
    if released.read:
        again = _n(
            "Later rounds read %(n)s again that one has read before.",
            "Later rounds read %(n)s again that rounds have read before.",
            released.read,
        )
        told = listed((told, again), " ")
    return _back(request, here, user_id, told)


@router.post("/reviewers/{user_id}/qualification")
def qualification(
    here: Here, user_id: UUID, request: Request, db: Db, value: Annotated[Literal["open", "waived"], Form()]
) -> Response:
    """Let somebody past the qualification round, or send them back to it."""
    service.set_qualification(db, here.project, user_id, value, actor=here.principal.user_id)
    if value == "waived":
        return _back(request, here, user_id, _("Real work comes next."))
    needed, left = queue_of(here.project.queue).qualification_pairs, gold_ahead(db, here.project, user_id)
    if left < needed:
        told = _(
            "The qualification round begins anew. It takes %(needed)s gold pairs; left for them: %(left)s. Add some.",
            needed=needed,
            left=left,
        )
        return _back(request, here, user_id, told, tone="bad")
    return _back(request, here, user_id, _("The qualification round begins anew, with other gold pairs."))


@router.post("/reviewers/{user_id}/goal")
def goal(here: Here, user_id: UUID, request: Request, db: Db, pairs: Annotated[str, Form()] = "") -> Response:
    """Give somebody a daily goal of their own; empty: the project's."""
    wanted = pairs.strip()
    if wanted and not (wanted.isdecimal() and 1 <= int(wanted) <= 10_000):
        return _back(
            request,
            here,
            user_id,
            _("%(wanted)s is no goal: give a number from 1 to 10000.", wanted=repr(wanted)),
            tone="bad",
        )
    service.set_goal(db, here.project, user_id, int(wanted) if wanted else None, actor=here.principal.user_id)
    return _back(request, here, user_id, _("Saved."))


@router.get("/checks")
def checks(here: Here, db: Db, render: Render, page: Annotated[int, Query(ge=1, le=10_000)] = 1) -> HTMLResponse:
    """Pairs with a known answer, and the forms that make some."""
    return render("reviewers/checks.html", **_checks(here, db, page=page))


@router.post("/checks")
def add_check(
    here: Here,
    request: Request,
    db: Db,
    render: Render,
    settings: AppSettings,
    kind: Annotated[Literal["gold", "attention"], Form()] = "gold",
    prompt: Annotated[str, Form()] = "",
    better: Annotated[str, Form()] = "",
    worse: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
) -> Response:
    """Add a pair; or show the form again with what is wrong."""
    typed = {"kind": kind, "prompt": prompt, "better": better, "worse": worse, "note": note}
    try:
        messages = from_text(prompt, max_chars=settings.max_prompt_chars)
        controls.add(
            db,
            here.project,
            kind=kind,
            messages=messages,
            better=better,
            worse=worse,
            note=note,
            actor=here.principal.user_id,
        )
    except DomainError as error:
        context = _checks(here, db, typed=typed, problem=listed(filter(None, (error.message, error.mend)), " "))
        return render("reviewers/checks.html", status=422, **context)
    return _to_checks(request, here, _("Added."))


@router.post("/checks/promote")
def promote(here: Here, request: Request, db: Db, fewest: Annotated[int, Form(ge=2, le=50)] = 3) -> Response:
    """Gold out of unanimous pairs."""
    made = controls.promote_unanimous(db, here.project, fewest_votes=fewest, actor=here.principal.user_id)
    if not made:
        told = _("No further pair has %(fewest)s votes or more that all agree.", fewest=fewest)
        return _to_checks(request, here, told, tone="info")
    told = _n("%(n)s unanimous pair is gold now.", "%(n)s unanimous pairs are gold now.", len(made))
    return _to_checks(request, here, told)


@router.post("/checks/attention")
def attention(here: Here, request: Request, db: Db, count: Annotated[int, Form(ge=1, le=200)] = 10) -> Response:
    """Attention pairs out of misplaced answers."""
    made = controls.make_attention(db, here.project, count=count, rng=SystemRandom(), actor=here.principal.user_id)
    told = _n(
        "%(n)s attention pair was made. Look through it before it is used.",
        "%(n)s attention pairs were made. Look through them before they are used.",
        len(made),
    )
    return _to_checks(request, here, told)


@router.post("/checks/{check_id}/retire")
def retire(here: Here, check_id: UUID, request: Request, db: Db) -> Response:
    """Give it to nobody any more."""
    controls.retire(db, here.project, check_id, actor=here.principal.user_id)
    return _to_checks(request, here, _("Retired. What was said of it stays in the figures."))


def _checks(
    here: ProjectContext, db: Db, *, page: int = 1, typed: dict[str, str] | None = None, problem: str = ""
) -> dict[str, Any]:
    found = controls.listed(db, here.project, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    return {
        "project": here.project,
        "checks": found[:PAGE_SIZE],
        "page": page,
        "more": len(found) > PAGE_SIZE,
        "counts": controls.counts(db, here.project),
        "queue": queue_of(here.project.queue),
        "typed": typed or {"kind": "gold", "prompt": "", "better": "", "worse": "", "note": ""},
        "problem": problem,
    }


def _back(
    request: Request, here: ProjectContext, user_id: UUID, told: str, *, tone: Literal["good", "bad"] = "good"
) -> Response:
    return see_other(request, f"/p/{here.project.slug}/reviewers/{user_id}", flash=told, tone=tone)


def _to_checks(
    request: Request, here: ProjectContext, told: str, *, tone: Literal["good", "info"] = "good"
) -> Response:
    return see_other(request, f"/p/{here.project.slug}/checks", flash=told, tone=tone)
