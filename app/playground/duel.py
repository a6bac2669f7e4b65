"""Two answers written side by side, such that nothing in their timing tells who writes which.

Both are sampled at once, each by a task of its own, and shown in step: a side is never more pieces ahead than the
slower one has, and no faster than reading speed. How long a version took to load, or how fast it is, is nowhere to be
seen. A side that fails ends alone; one that falls silent for too long no longer holds the other back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from app.chat.asking import ConversationTooLongError, Engines, Question, ask
from app.engine.client import Choice
from app.engine.record import drawn, end_of, is_storable
from app.errors import DomainError
from app.language import _
from app.versions.files import directory, end_tokens

log = logging.getLogger("hone.playground")

TICK_SECONDS = 0.1
PIECES_A_TICK = 8
STALL_SECONDS = 20.0
CUT_OFF = _("This answer could not be written to its end. The other one is not affected.")
TOO_LONG = _("The conversation is too long for the model. Start a new one, or ask something shorter.")

SideName = Literal["a", "b"]


@dataclass(slots=True)
class Side:
    """One answer in the making."""

    name: SideName
    question: Question
    pieces: list[str] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    """What is stored of it, once it has ended."""
    moved_at: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.answer is not None

    @property
    def error(self) -> str | None:
        """Why it has no end of its own, in words for the page."""
        return self.answer.get("error") if self.answer is not None else None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page learns of a side: more of its text, or that it has ended."""

    side: SideName
    text: str
    ended: bool = False
    error: str | None = None


class Duel:
    """Samples both sides from ``start`` on; ``shown`` may be read or left, the sampling goes on until ``stop``."""

    def __init__(self, engines: Engines, left: Question, right: Question) -> None:
        self._engines = engines
        self.sides = (Side("a", left), Side("b", right))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Ask the engine."""
        self._tasks = [asyncio.create_task(self._write(side)) for side in self.sides]

    async def wait(self) -> None:
        """Until both sides have ended."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """End the sampling of what has not ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answers(self) -> dict[str, dict[str, Any]]:
        """What is stored of both, by side, once they have ended."""
        return {side.name: side.answer or {"error": CUT_OFF} for side in self.sides}

    async def shown(self) -> AsyncIterator[Shown]:
        """More text of each side, in step, until both have ended."""
        at = 0
        told: set[str] = set()
        while len(told) < len(self.sides):
            before, at = at, min(at + PIECES_A_TICK, self._reach(at))
            for side in self.sides:
                over = side.ended and at >= len(side.pieces)
                if at > before and before < len(side.pieces):
                    yield Shown(side.name, "".join(side.pieces[:at]))
                if over and side.name not in told:
                    told.add(side.name)
                    yield Shown(side.name, "".join(side.pieces), ended=True, error=side.error)
            await asyncio.sleep(TICK_SECONDS)

    def _reach(self, at: int) -> int:
        """How many pieces of each side may be seen: as many as the slowest that still writes has."""
        now = time.monotonic()
        holding = [
            len(side.pieces)
            for side in self.sides
            if not side.ended and not (now - side.moved_at > STALL_SECONDS and len(side.pieces) <= at)
        ]
        return max(at, min(holding) if holding else max(len(side.pieces) for side in self.sides))

    async def _write(self, side: Side) -> None:
        try:
            side.answer = await self._sample(side)
        except Exception as error:
            known = isinstance(error, DomainError)
            log.warning("an answer could not be written: %s", error, exc_info=None if known else error)
            too_long = isinstance(error, ConversationTooLongError)
            side.answer = {"error": TOO_LONG if too_long else CUT_OFF, "text": "".join(side.pieces)}

    async def _sample(self, side: Side) -> dict[str, Any]:
        question = side.question
        async with ask(self._engines, question) as (stream, sampling):
            async for piece in stream:
                side.pieces.append(piece.text)
                side.moved_at = time.monotonic()
            sampled = stream.sampled()
        choice: Choice = sampled.choices[0]
        ends = await asyncio.to_thread(end_tokens, directory(self._engines.versions_dir, question.version_id))
        storable = is_storable(choice) and bool(sampled.prompt_ids)
        return {
            "text": choice.text.replace("\x00", "") if storable else "".join(c for c in choice.text if c.isprintable()),
            "ids": choice.token_ids,
            "prompt_ids": sampled.prompt_ids,
            "end": end_of(choice, ends),
            "sampling": drawn(sampling, seed=question.seed, n=1, index=0),
            "storable": storable,
        }
