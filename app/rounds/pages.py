"""A project's rounds: the list with its button, and a round's page, which follows it while it runs."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.db.tables import Round, User
from app.errors import ConflictError
from app.insights.queries import Overview, overview
from app.language import _, _n, listed
from app.language.figures import Figure
from app.projects import forms
from app.projects.form_sections import TRAINING_SECTIONS
from app.projects.validation import FieldError
from app.rounds import queries, service
from app.rounds.errors import RoundSettingsInvalidError
from app.rounds.figures import STEPS, figures, reached
from app.rounds.names import round_state
from app.rounds.states import ACTIVE
from app.versions import queries as versions
from app.web.deps import AppSettings, Db, Fields, Render, is_htmx, see_other

router = APIRouter(prefix="/p/{slug}/rounds", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]
Like = Annotated[str, Query()]


@router.get("")
def rounds(here: Here, db: Db, render: Render, cursor: Annotated[int | None, Query()] = None) -> HTMLResponse:
    """All rounds, newest first, and the button that starts one or the reason why it cannot."""
    now = overview(db, here.project)
    return render(
        "rounds/list.html",
        project=here.project,
        figures=now,
        not_now=why_not(here, now),
        page=queries.page(db, here.project, before=cursor, limit=30),
        numbers=_numbers(db, here),
    )


@router.post("")
def start(here: Here, request: Request, db: Db) -> Response:
    """Start a round, and go to its page."""
    round_ = service.request_round(db, here.project, trigger="button", requested_by=here.principal.user_id)
    return see_other(request, _url(here, round_))


@router.get("/new")
def other_settings(here: Here, db: Db, render: Render, like: Like = "") -> HTMLResponse:
    """A form of training settings for one round alone: filled in are the project's, or those of the round ``like``."""
    like_round = queries.by_number(db, here.project, like) if like else None
    return _asked(here, db, render, forms.of_training(_settings(here, like_round)), like_round)


@router.post("/new")
def start_with(here: Here, request: Request, fields: Fields, db: Db, render: Render, like: Like = "") -> Response:
    """Start a round with these settings, or show the form again with what is wrong or stands in the way."""
    like_round = queries.by_number(db, here.project, like) if like else None
    form, training = forms.read_training(fields, _settings(here, like_round))
    try:
        settings = service.settings_of(here.project, training, by_site_admin=here.principal.is_site_admin)
        round_ = service.request_round(
            db, here.project, trigger="button", requested_by=here.principal.user_id, settings=settings
        )
    except RoundSettingsInvalidError as error:
        form.add_errors([FieldError(name, why) for name, why in error.errors.items()])
        return _asked(here, db, render, form, like_round, status=422)
    except ConflictError as error:
        return _asked(here, db, render, form, like_round, status=error.status, refused=error)
    return see_other(request, _url(here, round_))


def _settings(here: ProjectContext, like: Round | None) -> dict[str, Any]:
    return here.project.training if like is None else like.settings


@router.get("/{number}")
def round_page(
    here: Here,
    number: str,
    request: Request,
    db: Db,
    settings: AppSettings,
    render: Render,
    seen: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """A round: what it does now, its figures so far, and what happened to it.

    The page asks again while the round is active, and says which state it shows (``seen``): when that has changed,
    the whole page is loaded anew, for its buttons have changed, too.
    """
    round_ = queries.by_number(db, here.project, number)
    if is_htmx(request) and seen != round_.state:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    events = queries.events(db, round_)
    requested_by = db.get(User, round_.requested_by) if round_.requested_by else None
    return render(
        "rounds/page.html",
        block="live",
        project=here.project,
        round=round_,
        active=round_.state in ACTIVE,
        steps=STEPS,
        reached=reached(round_, events),
        events=events,
        numbers=_numbers(db, here),
        requested_by=requested_by,
        figures=figures(queries.metrics(settings.jobs_dir, round_)),
    )


@router.post("/{number}/cancel")
def cancel(here: Here, number: str, request: Request, db: Db) -> Response:
    """Stop the round."""
    round_ = service.cancel(db, queries.by_number(db, here.project, number), actor=here.principal.user_id)
    ended = round_.state == "cancelled"
    told = _("The round was cancelled.") if ended else _("The round stops within a few seconds.")
    votes = _("The votes it read count as new again.") if round_.kind == "dpo" else _("Every vote is kept.")
    return see_other(request, _url(here, round_), flash=listed((told, votes), " "), tone="info")


@router.post("/{number}/retry")
def retry(here: Here, number: str, request: Request, db: Db) -> Response:
    """Try a failed round again."""
    round_ = service.retry(db, queries.by_number(db, here.project, number), actor=here.principal.user_id)
    return see_other(
        request, _url(here, round_), flash=_("The round starts again, from its last checkpoint if there is one.")
    )


def _asked(
    here: ProjectContext,
    db: Db,
    render: Render,
    form: forms.FormState,
    like: Round | None,
    *,
    status: int = 200,
    refused: ConflictError | None = None,
) -> HTMLResponse:
    return render(
        "rounds/new.html",
        status=status,
        project=here.project,
        form=form,
        sections=TRAINING_SECTIONS,
        fixed=forms.fixed_fields(here.principal),
        like=like,
        refused=refused,
        not_now=why_not(here, overview(db, here.project)),
    )


def why_not(here: ProjectContext, now: Overview) -> str | None:
    """Why no round can be started now, in words; None where one can."""
    needed = here.project.min_round_votes
    if now.active_round is not None:
        return _(
            "Round %(number)s is still %(state)s.",
            number=now.active_round.number,
            state=round_state(now.active_round.state),
        )
    if now.current is None:
        return _("There is no model to start from yet.")
    if now.votes_new < needed:
        missing = needed - now.votes_new
        return _n(
            "%(n)s more new vote is needed: %(new)s of %(needed)s.",
            "%(n)s more new votes are needed: %(new)s of %(needed)s.",
            missing,
            n=Figure(missing),
            new=Figure(now.votes_new),
            needed=Figure(needed),
        )
    return None


def _numbers(db: Db, here: ProjectContext) -> dict[Any, int]:
    """The number of every version by its id."""
    return {item.version.id: item.version.number for item in versions.lineage(db, here.project)}


def _url(here: ProjectContext, round_: Round) -> str:
    return f"/p/{here.project.slug}/rounds/{round_.number}"
