"""How pairs reach reviewers and how votes become preferences: two settings pages of their own."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.language import _, figures
from app.projects import service
from app.projects.aggregation import OVERALL, WEIGHTED, Aggregation, aggregation_of
from app.projects.queue import QueueSettings, queue_of
from app.projects.reviewing import reviewing_of
from app.projects.validation import ProjectInvalidError
from app.web.deps import Db, Fields, Render, see_other

router = APIRouter(prefix="/p/{slug}/settings", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]

QUEUE_CHOICES = {
    "order": (
        ("oldest", _("Oldest first, a pair's votes one after another")),
        ("newest", _("Newest first")),
        ("breadth", _("A first vote on every pair, then a second one")),
        ("random", _("By chance")),
    ),
    "bad_faith": (
        ("report", _("Show it to admins")),
        ("quarantine", _("Quarantine at once")),
        ("off", _("Do not look for it")),
    ),
}
AGGREGATION_CHOICES = {
    "method": (("each", _("Every vote on its own")), ("majority", _("What most say of a pair"))),
    "undecided": (("tie", _("A tie")), ("drop", _("Left out"))),
    "kept": (("keep", _("Kept, for losses that use them")), ("drop", _("Left out"))),
}
_DAYS_AND_SHARES = ("half_life_days", "window_days", "replay_percent")
_MARGINS = ("slightly", "clearly", "much")


@router.get("/queue")
def queue(here: Here, render: Render) -> HTMLResponse:
    """The settings of the queue and of its checks."""
    return _queue_page(render, here, queue_of(here.project.queue).model_dump())


@router.post("/queue")
def save_queue(here: Here, request: Request, fields: Fields, db: Db, render: Render) -> Response:
    """Change them all, or show the form again with what is wrong."""
    values: dict[str, Any] = {
        name: _typed(fields, name) for name in QueueSettings.model_fields if name != "own_prompts"
    }
    values["own_prompts"] = bool(_text(fields, "own_prompts"))
    try:
        service.update_project(db, here.project, actor=here.principal.user_id, queue=_given(values))
    except ProjectInvalidError as error:
        errors, general = _by_field(error, "queue")
        return _queue_page(render, here, values, errors=errors, general=general, status=422)
    return _saved(request, here, "queue", _("Saved. Pairs handed out from now on follow this."))


@router.get("/preferences")
def preferences(here: Here, render: Render) -> HTMLResponse:
    """The settings by which votes become preferences."""
    return _preferences_page(render, here, aggregation_of(here.project.aggregation).model_dump())


@router.post("/preferences")
def save_preferences(here: Here, request: Request, fields: Fields, db: Db, render: Render) -> Response:
    """Change them all, or show the form again with what is wrong."""
    values: dict[str, Any] = {
        name: _typed(fields, name)
        for name in ("method", "undecided", "ties", "both_bad", "criteria", *_DAYS_AND_SHARES)
    }
    values |= {name: bool(_text(fields, name)) for name in ("skill", "corrections")}
    values["margins"] = {name: _typed(fields, f"margin-{name}") for name in _MARGINS}
    keys = reviewing_of(here.project.reviewing).criteria_by_key
    values["criteria_weights"] = {key: weight for key in keys if (weight := _typed(fields, f"weight-{key}"))}
    wanted = _given(values) | {"margins": _given(values["margins"])}
    try:
        service.update_project(db, here.project, actor=here.principal.user_id, aggregation=wanted)
    except ProjectInvalidError as error:
        errors, general = _by_field(error, "aggregation")
        return _preferences_page(render, here, values, errors=errors, general=general, status=422)
    return _saved(request, here, "preferences", _("Saved. Rounds that start from now on read votes this way."))


def _text(fields: FormData, name: str) -> str:
    return str(fields.get(name, "")).strip()


def _typed(fields: FormData, name: str) -> str:
    """What was typed, a number with a point; one that may mean this or that is made none, and so refused."""
    text = _text(fields, name)
    number = figures.typed(text)
    return f"{text}?" if number is None else number


def _as_typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they stand in the form, numbers as the language of now writes them."""
    return {name: _as_typed(value) if isinstance(value, Mapping) else _written(value) for name, value in values.items()}


def _written(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return figures.in_field(text) if figures.is_number(text) else text


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Without what was left empty: that takes its default."""
    return {name: value for name, value in values.items() if value != ""}


def _by_field(error: ProjectInvalidError, setting: str) -> tuple[dict[str, str], list[str]]:
    """'queue.gold_percent' belongs to its field; what is about several of them, or about others, stands on top."""
    errors: dict[str, str] = {}
    general: list[str] = []
    for item in error.errors:
        first, _dot, rest = item.field.partition(".")
        if first == setting and rest:
            errors.setdefault(rest, item.message)
        else:
            general.append(item.message)
    return errors, general


def _saved(request: Request, here: ProjectContext, page: str, told: str) -> Response:
    return see_other(request, f"/p/{here.project.slug}/settings/{page}", flash=told)


def _queue_page(
    render: Render,
    here: ProjectContext,
    values: dict[str, Any],
    *,
    errors: dict[str, str] | None = None,
    general: list[str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    return render(
        "projects/queue.html",
        status=status,
        project=here.project,
        values=_as_typed(values),
        errors=errors or {},
        general=general or [],
        choices=QUEUE_CHOICES,
        ranking=reviewing_of(here.project.reviewing).mode == "ranking",
    )


def _preferences_page(
    render: Render,
    here: ProjectContext,
    values: dict[str, Any],
    *,
    errors: dict[str, str] | None = None,
    general: list[str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    criteria = reviewing_of(here.project.reviewing).criteria
    choices = [(OVERALL, _("The choice itself")), (WEIGHTED, _("All criteria, weighed into one"))]
    choices += [(item.key, _("%(name)s alone", name=item.label)) for item in criteria]
    if values["criteria"] not in dict(choices):  # asked for earlier, and no longer
        choices.append((values["criteria"], _("%(name)s alone", name=values["criteria"])))
    return render(
        "projects/aggregation.html",
        status=status,
        project=here.project,
        values=_as_typed(values),
        errors=errors or {},
        general=general or [],
        choices=AGGREGATION_CHOICES,
        criteria=criteria,
        criteria_choices=choices,
        margins=_MARGINS,
        defaults=Aggregation(),
    )
