"""What reviewers are asked: the settings page of its own."""

import re
import unicodedata
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.language import _
from app.lines import with_newlines
from app.projects import editing, guidelines, service
from app.projects.asked import CHOICES, in_words
from app.projects.reviewing import MAX_CRITERIA, reviewing_of
from app.projects.validation import ProjectInvalidError
from app.web.deps import Db, Fields, Render, see_other

router = APIRouter(prefix="/p/{slug}/settings/reviewing", include_in_schema=False)

Here = Annotated[ProjectContext, access.admin()]

_SPARE_ROWS = 2


@router.get("")
def show(here: Here, db: Db, render: Render) -> HTMLResponse:
    """The settings as they are."""
    return _page(db, render, here, _stored(here))


@router.post("")
def save(here: Here, request: Request, fields: Fields, db: Db, render: Render) -> Response:
    """Store what was changed in the form, or show it again with what is wrong or was changed by somebody else, too."""
    service.hold(db, here.project)
    shown = str(fields.get(editing.MARKS, ""))
    merged = editing.merge(_typed(fields), _stored(here), shown)
    values = merged.values
    wanted = values | {"tags": [line.strip() for line in values["tags"].split("\n") if line.strip()]}
    back: dict[str, Any] = (
        {"stored": merged.stored, "status": 409} if merged.stored else {"shown": shown, "status": 422}
    )
    try:
        if merged.stored:  # what is wrong as well is told at once, not when that is settled
            service.check_changes(db, here.project, reviewing=wanted)
            return _page(db, render, here, values, **back)
        service.update_project(db, here.project, actor=here.principal.user_id, reviewing=wanted)
    except ProjectInvalidError as error:
        return _page(db, render, here, values, **back, **_by_field(error))
    told = _("Saved. Pairs shown from now on ask for this.")
    return see_other(request, f"/p/{here.project.slug}/settings/reviewing", flash=told)


def _stored(here: ProjectContext) -> dict[str, Any]:
    """The settings as the form holds them."""
    values = reviewing_of(here.project.reviewing).model_dump()
    numbers = {name: str(values[name]) for name in ("answers", "comment_min_chars")}
    return values | numbers | {"tags": "\n".join(values["tags"])}


def _typed(fields: FormData) -> dict[str, Any]:
    def text(name: str) -> str:
        return with_newlines(str(fields.get(name, ""))).strip()

    criteria: list[dict[str, str]] = []
    for row in range(MAX_CRITERIA + _SPARE_ROWS):
        label = text(f"label-{row}")
        if label:
            key = text(f"key-{row}") or _key(label, {criterion["key"] for criterion in criteria})
            criteria.append({"key": key, "label": label, "scale": text(f"scale-{row}") or "preference"})
    return {
        "mode": text("mode"),
        "answers": text("answers"),
        "scale": text("scale"),
        "criteria": criteria,
        "criteria_required": bool(text("criteria_required")),
        "comment": text("comment"),
        "comment_min_chars": text("comment_min_chars") or "0",
        "tags": text("tags"),
        "correction": bool(text("correction")),
        "skip_reason": text("skip_reason"),
    }


def _key(label: str, taken: set[str]) -> str:
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:36].lstrip("0123456789_") or "criterion"
    return next(key for number in range(1, 100) if (key := stem if number == 1 else f"{stem}_{number}") not in taken)


def _by_field(error: ProjectInvalidError) -> dict[str, Any]:
    """'reviewing.answers' belongs to its field, 'reviewing.criteria.0.label' to the criteria; others stand on top."""
    errors: dict[str, str] = {}
    general: list[str] = []
    for item in error.errors:
        parts = item.field.split(".")
        if len(parts) > 1 and parts[0] == "reviewing":
            errors.setdefault(parts[1], item.message)
        else:
            general.append(item.message)
    return {"errors": errors, "general": general}


def _page(
    db: Db,
    render: Render,
    here: ProjectContext,
    values: dict[str, Any],
    *,
    shown: str = "",
    stored: dict[str, Any] | None = None,
    errors: dict[str, str] | None = None,
    general: list[str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    spare = min(_SPARE_ROWS, MAX_CRITERIA - len(values["criteria"]))
    return render(
        "projects/reviewing.html",
        status=status,
        project=here.project,
        values=values,
        shown=shown or editing.marks(_stored(here)),
        stored={name: in_words(name, value) for name, value in (stored or {}).items()},
        criteria=[*values["criteria"], *({"key": "", "label": "", "scale": "preference"} for _ in range(spare))],
        errors=errors,
        general=general or [],
        choices=CHOICES,
        readers=guidelines.readers(db, here.project),
    )
