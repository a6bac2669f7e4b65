"""The page where people ask for themselves: two blind answers side by side, a choice, and the versions after it."""

import secrets
from contextlib import AsyncExitStack
from random import Random
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.accounts import access, usage
from app.accounts.principal import ProjectContext
from app.chat.asking import Engines, Question, sampling_of
from app.comparisons.in_hand import PromptInHandError
from app.comparisons.records import CHOICES, Choice
from app.db.tables import PlaygroundTurn, Version
from app.errors import DomainError, InvalidError
from app.language import _, listed
from app.playground import service
from app.playground.duel import Duel
from app.playground.writing import Turn, events
from app.projects.reviewing import reviewing_of
from app.prompts.conversations import ConversationError
from app.settings import Settings
from app.versions.names import version_state
from app.web.departure import HeldStream
from app.web.deps import AppSettings, Db, Render, is_htmx, see_other

router = APIRouter(prefix="/p/{slug}/playground", include_in_schema=False)

Here = Annotated[ProjectContext, access.reviewer()]
_OFFERED: dict[Choice, str] = {
    "a": _("A is better"),
    "tie": _("Tie"),
    "both_bad": _("Both bad"),
    "b": _("B is better"),
}
_CHARS_PER_TOKEN = 4


@router.get("")
def playground(here: Here, db: Db, render: Render, turn: UUID | None = None) -> Response:
    """The page: nothing asked yet, or a turn as it stands."""
    shown = service.get_turn(db, here.project, here.principal.user_id, turn) if turn else None
    return _page(here, db, render, shown)


@router.post("")
def ask(
    here: Here,
    db: Db,
    render: Render,
    request: Request,
    settings: AppSettings,
    text: Annotated[str, Form()] = "",
    parent: Annotated[UUID | None, Form()] = None,
    side: Annotated[str | None, Form()] = None,
) -> Response:
    """Ask; the answer holds two empty places, for which the page then fetches the stream."""
    me = here.principal.user_id
    before = service.get_turn(db, here.project, me, parent) if parent else None
    try:
        turn = service.open_turn(
            db,
            here.project,
            me,
            text,
            parent=before,
            side=side,
            max_chars=settings.max_prompt_chars,
            rng=_rng(),
            blind=here.role != "admin",
        )
    except ConversationError as error:
        return _page(here, db, render, before, status=422, typed=text, error=_asked_wrongly(text, error))
    except PromptInHandError as error:
        told = listed((error.message, error.mend), " ")
        return _page(here, db, render, before, status=error.status, typed=text, error=told)
    url = f"/p/{here.project.slug}/playground?turn={turn.id}"
    if not is_htmx(request):
        return see_other(request, url)
    return _page(here, db, render, turn, headers={"HX-Push-Url": url})


@router.post("/{turn_id}/stream")
async def stream(turn_id: UUID, here: Here, db: Db, settings: AppSettings, request: Request) -> Response:
    """Both answers, as they are written: server-sent events with sanitised HTML. Once for each turn."""
    turn, questions, taken = await run_in_threadpool(_begin, db, here, turn_id, settings)
    state = request.app.state
    engines = Engines(state.async_engine_client, state.engine_client, settings.versions_dir)
    writing = Turn(turn.id, state.session_factory, taken, _rng(), state.after_commit)
    return HeldStream(events(writing, Duel(engines, *questions)), AsyncExitStack(), {})


@router.post("/{turn_id}/choice")
def choose(
    turn_id: UUID,
    here: Here,
    db: Db,
    render: Render,
    request: Request,
    choice: Annotated[str, Form()],
    seconds: Annotated[str, Form()] = "",
) -> Response:
    """Choose, also before the answers are whole. The answer says which versions wrote them."""
    turn = service.get_turn(db, here.project, here.principal.user_id, turn_id, lock=True)
    if choice not in _offered(here):
        raise InvalidError(
            _("%(choice)s cannot be chosen here.", choice=repr(choice)),
            mend=_("Choose one of %(here)s.", here=", ".join(_offered(here))),
        )
    known: Choice = next(item for item in CHOICES if item == choice)
    service.choose(db, here.project, turn, known, _seconds(seconds), _rng())
    if not is_htmx(request):
        return see_other(request, f"/p/{here.project.slug}/playground?turn={turn.id}")
    return _page(here, db, render, turn, block="verdict")


def _begin(
    db: Session, here: ProjectContext, turn_id: UUID, settings: Settings
) -> tuple[PlaygroundTurn, tuple[Question, Question], usage.Taken]:
    """Take the turn and count it, and commit: no connection is held while the models write."""
    turn = service.get_turn(db, here.project, here.principal.user_id, turn_id)
    sampling = sampling_of(turn.sampling)
    chars = sum(len(message["content"]) for message in turn.messages)
    allowed = usage.allowances(db, here.principal, settings)
    taken = usage.take(db, allowed, tokens=2 * (sampling.max_tokens + chars // _CHARS_PER_TOKEN))
    service.start_writing(db, turn)
    left, right = (
        Question(service.version_of(turn, side), turn.messages, sampling, 1, turn.sampling["seeds"][side])
        for side in service.SIDES
    )
    db.commit()
    return turn, (left, right), taken


def _page(
    here: ProjectContext,
    db: Session,
    render: Render,
    turn: PlaygroundTurn | None,
    *,
    block: str = "stage",
    typed: str = "",
    error: str = "",
    **options: Any,
) -> Response:
    """The page, or for HTMX its stage or only the verdict. Versions are looked up only when a choice was made."""
    chosen = turn is not None and turn.choice is not None
    return render(
        "playground/page.html",
        block=block,
        project=here.project,
        turn=turn,
        offered=_offered(here),
        wrote={side: _said_of(db, turn, side) for side in service.SIDES} if chosen and turn is not None else {},
        typed=typed,
        error=error,
        **options,
    )


def _offered(here: ProjectContext) -> dict[str, str]:
    """What can be chosen: what the project's reviewers may say of a pair."""
    asked = reviewing_of(here.project.reviewing)
    known = {"ab": ("a", "b"), "ab_tie": ("a", "tie", "b")}.get(asked.scale, tuple(_OFFERED))
    return {choice: label for choice, label in _OFFERED.items() if choice in known}


def _said_of(db: Session, turn: PlaygroundTurn, side: str) -> str:
    version = db.get_one(Version, service.version_of(turn, side))
    return _("version %(number)s (%(state)s)", number=version.number, state=version_state(version.state))


def _asked_wrongly(text: str, error: DomainError) -> str:
    return error.message if text.strip() else _("Write a question first.")


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _rng() -> Random:
    """Unpredictable: which version stands on which side is nobody's to guess."""
    return secrets.SystemRandom()
