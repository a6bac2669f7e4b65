"""One turn's answers as a stream of events for its page, and what is kept of them when they end."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import anyio
from starlette.concurrency import run_in_threadpool

from app.accounts import usage
from app.db.session import SessionFactory, transaction
from app.playground import service
from app.playground.duel import Duel
from app.web.markdown import render_markdown

log = logging.getLogger("hone.playground")
_unseen: set[asyncio.Task[None]] = set()
"""Answers that are written to their end for a choice, although nobody looks on."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a stream needs to know of its turn."""

    id: UUID
    factory: SessionFactory
    taken: usage.Taken
    rng: Random
    wake: Any
    """Called when something is to be sent to the worker."""


async def events(turn: Turn, duel: Duel) -> AsyncIterator[str]:
    """Server-sent events: ``text`` (sanitised HTML of a side so far), ``end`` of a side, ``done``.

    Whoever leaves before choosing ends the sampling. After a choice the answers are written to their end all the same:
    the choice was acknowledged, and is a vote when they are whole.
    """
    duel.start()
    finished = False
    try:
        async for shown in duel.shown():
            if shown.text:
                html = await run_in_threadpool(render_markdown, shown.text)
                yield _event("text", {"side": shown.side, "html": html})
            if shown.ended:
                yield _event("end", {"side": shown.side, "error": shown.error})
        state = await run_in_threadpool(_finish, turn, duel)
        finished = True
        yield _event("done", {"state": state})
    finally:
        if not finished:
            with anyio.CancelScope(shield=True):
                await _left_alone(turn, duel)


async def _left_alone(turn: Turn, duel: Duel) -> None:
    try:
        needed = await run_in_threadpool(_leave, turn)
    except Exception:
        await duel.stop()
        raise
    if needed:
        task = asyncio.create_task(_to_the_end(turn, duel))
        _unseen.add(task)
        task.add_done_callback(_unseen.discard)
        return
    await duel.stop()
    await run_in_threadpool(_settle, turn, duel)


async def _to_the_end(turn: Turn, duel: Duel) -> None:
    try:
        await duel.wait()
        await run_in_threadpool(_finish, turn, duel)
    except Exception:
        log.exception("the answers of turn %s, on which somebody had voted, could not be kept", turn.id)


def _finish(turn: Turn, duel: Duel) -> str:
    with transaction(turn.factory) as db:
        state = service.finish_writing(db, turn.id, duel.answers(), rng=turn.rng)
        usage.settle(db, turn.taken, _tokens(duel))
    turn.wake()
    return state


def _leave(turn: Turn) -> bool:
    with transaction(turn.factory) as db:
        return service.leave(db, turn.id)


def _settle(turn: Turn, duel: Duel) -> None:
    with transaction(turn.factory) as db:
        usage.settle(db, turn.taken, _tokens(duel))


def _tokens(duel: Duel) -> int:
    """Read and written; of a side that did not end, its pieces."""
    total = 0
    for side in duel.sides:
        answer = side.answer or {}
        total += len(answer.get("prompt_ids", ())) + len(answer.get("ids", side.pieces))
    return total


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
