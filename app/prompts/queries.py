"""Reading prompts: pages of them, filtered, and how many there are of each kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from app.db.tables import Project, Prompt, PromptUpload
from app.errors import NotFoundError
from app.language import _

Show = Literal["active", "held_out", "problem", "archived", "all"]
SHOWN: tuple[Show, ...] = ("active", "held_out", "problem", "archived", "all")
_ELSEWHERE = _("Check the id; it may belong to another project.")


@dataclass(frozen=True, slots=True)
class Page:
    """Some prompts, newest first, and where the next ones begin."""

    prompts: Sequence[Prompt]
    next_cursor: UUID | None
    """Give it as ``before`` to go on; None at the end."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many prompts a project has. Archived ones count only as archived."""

    active: int
    held_out: int
    problem: int
    archived: int


def page(
    db: Session,
    project: Project,
    *,
    show: Show = "active",
    search: str = "",
    source: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Page:
    """Prompts of the project, newest first.

    Args:
        search: a text that one of the conversation's turns holds, in whatever case.
        before: the cursor, the id of the last prompt already seen.
    """
    query = select(Prompt).where(Prompt.project_id == project.id, *_shown(show))
    if search.strip():
        query = query.where(_mentions(search.strip()))
    if source is not None:
        query = query.where(Prompt.source == source)
    if before is not None:
        query = query.where(Prompt.id < before)
    found = db.scalars(query.order_by(Prompt.id.desc()).limit(limit + 1)).all()
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def counts(db: Session, project: Project) -> Counts:
    """How many prompts of each kind the project has."""
    active, held_out, problem, archived = db.execute(
        select(
            func.count().filter(*_shown("active")),
            func.count().filter(*_shown("held_out")),
            func.count().filter(*_shown("problem")),
            func.count().filter(*_shown("archived")),
        ).where(Prompt.project_id == project.id)
    ).one()
    return Counts(active=active, held_out=held_out, problem=problem, archived=archived)


def get(db: Session, project: Project, prompt_id: UUID) -> Prompt:
    """A prompt of this project. Raises NotFoundError, also for another project's."""
    prompt = db.scalar(select(Prompt).where(Prompt.id == prompt_id, Prompt.project_id == project.id))
    if prompt is None:
        raise NotFoundError(_("this project has no prompt %(prompt_id)s", prompt_id=prompt_id), mend=_ELSEWHERE)
    return prompt


def get_upload(db: Session, project: Project, upload_id: UUID) -> PromptUpload:
    """What became of an uploaded file. Raises NotFoundError, also for another project's."""
    upload = db.scalar(select(PromptUpload).where(PromptUpload.id == upload_id, PromptUpload.project_id == project.id))
    if upload is None:
        raise NotFoundError(_("this project has no upload %(upload_id)s", upload_id=upload_id), mend=_ELSEWHERE)
    return upload


def _shown(show: Show) -> list[ColumnElement[bool]]:
    in_use = Prompt.archived_at.is_(None)
    conditions: dict[Show, list[ColumnElement[bool]]] = {
        "active": [in_use],
        "held_out": [in_use, Prompt.held_out.is_(True)],
        "problem": [in_use, Prompt.problem.is_not(None)],
        "archived": [Prompt.archived_at.is_not(None)],
        "all": [],
    }
    return conditions[show]


def _mentions(text: str) -> ColumnElement[bool]:
    turn = func.jsonb_array_elements(Prompt.messages).table_valued("value", name="turn")
    content = turn.c.value.op("->>")("content")
    return exists(select(1).select_from(turn).where(content.icontains(text, autoescape=True)))
