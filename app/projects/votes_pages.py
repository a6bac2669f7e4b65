"""How pairs reach reviewers and how votes become preferences: two settings pages of their own."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.language import _, figures
from app.projects import editing, service
from app.projects.aggregation import OVERALL, WEIGHTED, aggregation_of
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
_PREFIXES = {"margins": "margin", "criteria_weights": "weight"}
"""How fields of a group begin."""
_MARGINS = ("slightly", "clearly", "much")


@router.get("/queue")
def queue(here: Here, render: Render) -> HTMLResponse:
    """The settings of the queue and of its checks."""
    return _queue_page(render, here, _stored_queue(here))


@router.post("/queue")
def save_queue(here: Here, request: Request, fields: Fields, db: Db, render: Render) -> Response:
    """Store what was changed in the form, or show it again with what is wrong or was changed by somebody else, too."""
    service.hold(db, here.project)
    typed: dict[str, Any] = {name: _typed(fields, name) for name in QueueSettings.model_fields if name != "own_prompts"}
    typed["own_prompts"] = bool(_text(fields, "own_prompts"))
    shown = _text(fields, editing.MARKS)
    merged = editing.merge(typed, _stored_queue(here), shown)
    back: dict[str, Any] = (
        {"stored": merged.stored, "status": 409} if merged.stored else {"shown": shown, "status": 422}
    )
    try:
        if merged.stored:  # what is wrong as well is told at once, not when that is settled
            service.check_changes(db, here.project, queue=_given(merged.values))
            return _queue_page(render, here, merged.values, **back)
        service.update_project(db, here.project, actor=here.principal.user_id, queue=_given(merged.values))
    except ProjectInvalidError as error:
        return _queue_page(render, here, merged.values, **back, **_by_field(error, "queue"))
    return _saved(request, here, "queue", _("Saved. Pairs handed out from now on follow this."))


@router.get("/preferences")
def preferences(here: Here, render: Render) -> HTMLResponse:
    """The settings by which votes become preferences."""
    return _preferences_page(render, here, _stored_preferences(here))


@router.post("/preferences")
def save_preferences(here: Here, request: Request, fields: Fields, db: Db, render: Render) -> Response:
    """Store what was changed in the form, or show it again with what is wrong or was changed by somebody else, too."""
    service.hold(db, here.project)
    current, shown = _stored_preferences(here), _text(fields, editing.MARKS)
    merged = editing.merge(_typed_preferences(fields, current), current, shown)
    back: dict[str, Any] = (
        {"stored": merged.stored, "status": 409} if merged.stored else {"shown": shown, "status": 422}
    )
    try:
        if merged.stored:  # what is wrong as well is told at once, not when that is settled
            service.check_changes(db, here.project, aggregation=_nested(merged.values))
            return _preferences_page(render, here, merged.values, **back)
        service.update_project(db, here.project, actor=here.principal.user_id, aggregation=_nested(merged.values))
    except ProjectInvalidError as error:
        return _preferences_page(render, here, merged.values, **back, **_by_field(error, "aggregation"))
    return _saved(request, here, "preferences", _("Saved. Rounds that start from now on read votes this way."))


def _stored_queue(here: ProjectContext) -> dict[str, Any]:
    """The settings as the form holds them."""
    return {name: _held(value) for name, value in queue_of(here.project.queue).model_dump().items()}


def _stored_preferences(here: ProjectContext) -> dict[str, Any]:
    """The same, those of a group by dotted names; with a weight, or none, for each criterion that is asked for."""
    values = aggregation_of(here.project.aggregation).model_dump()
    margins, weights = values.pop("margins"), values.pop("criteria_weights")
    keys = reviewing_of(here.project.reviewing).criteria_by_key
    held = {name: _held(value) for name, value in values.items()}
    held |= {f"margins.{name}": _held(margins[name]) for name in _MARGINS}
    return held | {f"criteria_weights.{key}": _held(weights.get(key)) for key in keys}


def _typed_preferences(fields: FormData, current: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed; of a criterion that the form did not have, the weight that is stored."""
    typed: dict[str, Any] = {}
    for name, now in current.items():
        group, _dot, key = name.partition(".")
        field = f"{_PREFIXES[group]}-{key}" if key else name
        if isinstance(now, bool):
            typed[name] = bool(_text(fields, field))
        else:
            typed[name] = now if group == "criteria_weights" and field not in fields else _typed(fields, field)
    return typed


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the service takes them, those left empty left out."""
    nested: dict[str, Any] = {}
    for name, value in _given(values).items():
        group, _dot, key = name.partition(".")
        if key:
            nested.setdefault(group, {})[key] = value
        else:
            nested[name] = value
    return nested


def _text(fields: FormData, name: str) -> str:
    return str(fields.get(name, "")).strip()


def _typed(fields: FormData, name: str) -> str:
    """What was typed, a number with a point; one that may mean this or that is made none, and so refused."""
    text = _text(fields, name)
    number = figures.typed(text)
    return f"{text}?" if number is None else number


def _held(value: Any) -> Any:
    """A setting as its field holds it, a number with a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return value
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _as_typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as people of the language of now would type them."""
    return {
        name: figures.in_field(value) if isinstance(value, str) and figures.is_number(value) else value
        for name, value in values.items()
    }


def _in_words(stored: Mapping[str, Any] | None, choices: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Settings as people read them on the page. choices: of those that are chosen from some."""
    words: dict[str, str] = {}
    for name, value in _as_typed(stored or {}).items():
        named = _("yes") if value is True else _("no") if value is False else dict(choices.get(name, ())).get(value)
        words[name] = named or value or _("nothing")
    return words


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left empty: that takes its default."""
    return {name: value for name, value in values.items() if value != ""}


def _by_field(error: ProjectInvalidError, setting: str) -> dict[str, Any]:
    """'queue.gold_percent' belongs to its field; what is about several of them, or about others, stands on top."""
    errors: dict[str, str] = {}
    general: list[str] = []
    for item in error.errors:
        first, _dot, rest = item.field.partition(".")
        if first == setting and rest:
            errors.setdefault(rest, item.message)
        else:
            general.append(item.message)
    return {"errors": errors, "general": general}


def _saved(request: Request, here: ProjectContext, page: str, told: str) -> Response:
    return see_other(request, f"/p/{here.project.slug}/settings/{page}", flash=told)


def _queue_page(
    render: Render,
    here: ProjectContext,
    values: dict[str, Any],
    *,
    shown: str = "",
    stored: Mapping[str, Any] | None = None,
    errors: dict[str, str] | None = None,
    general: list[str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    return render(
        "projects/queue.html",
        status=status,
        project=here.project,
        values=_as_typed(values),
        shown=shown or editing.marks(_stored_queue(here)),
        stored=_in_words(stored, QUEUE_CHOICES),
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
    shown: str = "",
    stored: Mapping[str, Any] | None = None,
    errors: dict[str, str] | None = None,
    general: list[str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    criteria = reviewing_of(here.project.reviewing).criteria
    choices = [(OVERALL, _("The choice itself")), (WEIGHTED, _("All criteria, weighed into one"))]
    choices += [(item.key, _("%(name)s alone", name=item.label)) for item in criteria]
    for name in (values["criteria"], (stored or {}).get("criteria", OVERALL)):
        if name not in dict(choices):  # asked for earlier, and no longer
            choices.append((name, _("%(name)s alone", name=name)))
    kept = AGGREGATION_CHOICES["kept"]
    named = {**AGGREGATION_CHOICES, "ties": kept, "both_bad": kept, "criteria": choices}
    return render(
        "projects/aggregation.html",
        status=status,
        project=here.project,
        values=_as_typed(values),
        shown=shown or editing.marks(_stored_preferences(here)),
        stored=_in_words(stored, named),
        errors=errors or {},
        general=general or [],
        choices=AGGREGATION_CHOICES,
        criteria=criteria,
        criteria_choices=choices,
        margins=_MARGINS,
    )
