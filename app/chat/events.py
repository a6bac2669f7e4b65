"""The answers as an OpenAI client reads them: whole, or as server-sent events."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.chat.schemas import AnswerMessage, ChatCompletion, Choice, Kept, Usage
from app.engine.client import Piece
from app.errors import DomainError
from app.web.openai_errors import openai_error

DONE = "data: [DONE]\n\n"


@dataclass(slots=True)
class Told:
    """What has come of every answer so far."""

    n: int
    texts: list[list[str]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    prompt_tokens: int = 0
    """Known from the first piece on."""
    settled: bool = False
    """What was used is counted: whoever comes later must not count it again."""

    def __post_init__(self) -> None:
        self.texts = [[] for _ in range(self.n)]
        self.tokens = [0] * self.n
        self.reasons = [None] * self.n

    def add(self, piece: Piece, prompt_tokens: int) -> None:
        """One more piece, and how many tokens the engine read for it."""
        self.prompt_tokens = prompt_tokens
        self.texts[piece.index].append(piece.text)
        self.tokens[piece.index] += len(piece.token_ids)
        self.reasons[piece.index] = piece.finish_reason or self.reasons[piece.index]

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far."""
        written = sum(self.tokens)
        return Usage(
            prompt_tokens=self.prompt_tokens, completion_tokens=written, total_tokens=self.prompt_tokens + written
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What every part of one answer says of itself."""

    id: str
    created: int
    model: str

    def whole(self, told: Told, kept: Kept) -> ChatCompletion:
        """The answer to a request that does not stream."""
        choices = [
            Choice(
                index=index,
                message=AnswerMessage(content="".join(told.texts[index])),
                finish_reason="length" if reason == "length" else "stop",
            )
            for index, reason in enumerate(told.reasons)
        ]
        return ChatCompletion(
            id=self.id, created=self.created, model=self.model, choices=choices, usage=told.usage, hone=kept
        )

    def opening(self, index: int) -> str:
        """Who speaks."""
        return self._chunk(index, {"role": "assistant", "content": ""}, None)

    def text(self, piece: Piece) -> str:
        """A little more of one answer."""
        return self._chunk(piece.index, {"content": piece.text}, None)

    def closing(self, index: int, reason: str | None, kept: Kept) -> str:
        """The end of one answer, and what became of the chat."""
        return self._chunk(index, {}, reason or "stop", hone=kept.model_dump(exclude_none=True))

    def usage(self, usage: Usage) -> str:
        """Tokens read and written, if that was asked for."""
        return self._event([], usage=usage.model_dump())

    def _chunk(self, index: int, delta: Mapping[str, str], reason: str | None, **extra: Any) -> str:
        return self._event([{"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}], **extra)

    def _event(self, choices: list[dict[str, Any]], **extra: Any) -> str:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return sse(head | {"choices": choices} | extra)


def error_event(error: DomainError) -> str:
    """What goes wrong after the first byte: OpenAI's clients raise it, and nothing comes after it."""
    return sse({"error": openai_error(error)})


def sse(data: Mapping[str, Any]) -> str:
    """One event."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
