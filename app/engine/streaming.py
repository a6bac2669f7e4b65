"""Reading a stream of completions, ours or vLLM's: server-sent events to pieces of text, without any I/O."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

from app.engine.errors import EngineNonsense, EngineUnavailable
from app.engine.protocol import Choice, FinishReason, Sampled, described, error_of

_LONGEST_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Piece:
    """What one completion gained. ``text`` never ends inside a character; ``token_ids`` is empty where the server
    returns none. ``finish_reason`` is None until the completion's last piece."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None


@dataclass(slots=True)
class _Completion:
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    bare: bool = False
    """Some of its text came without token ids."""


class StreamReader:
    """Takes bytes as they come in and hands out pieces; afterwards it knows the whole of it."""

    def __init__(self, n: int) -> None:
        self._buffer = bytearray()
        self._completions = [_Completion() for _ in range(n)]
        self._done = False
        self.prompt_ids: list[int] = []
        """What the model saw; known from the first piece on, empty where the server does not say."""

    @property
    def done(self) -> bool:
        """Whether the server said that this was all."""
        return self._done

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that became whole with ``data``.

        Lines are cut at line feeds only: texts may hold other characters that Unicode counts as ends of lines.

        Raises:
            EngineUnavailable, EngineRefused: the server reports an error in mid-stream.
            EngineNonsense: it is not the protocol.
        """
        self._buffer += data
        pieces = []
        while not self._done and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            pieces += self._line(line)
        if len(self._buffer) > _LONGEST_LINE:
            raise EngineNonsense(f"a stream's line is longer than {_LONGEST_LINE} bytes")
        return pieces

    def end(self) -> list[Piece]:
        """No more bytes come.

        Raises:
            EngineUnavailable: the stream broke off before every completion was finished.
        """
        pieces = self._line(bytes(self._buffer).rstrip(b"\r")) if not self._done else []
        self._buffer.clear()
        open_ones = [index for index, found in enumerate(self._completions) if found.finish_reason is None]
        if open_ones:
            raise EngineUnavailable(f"the stream broke off before completions {open_ones} were finished")
        return pieces

    def sampled(self) -> Sampled:
        """The whole answer, once the stream has ended.

        Raises:
            EngineUnavailable: it has not ended.
            EngineNonsense: the server sent text without the token ids it was sampled as.
        """
        choices = []
        for index, found in enumerate(self._completions):
            if found.finish_reason is None:
                raise EngineUnavailable(f"completion {index} is not finished")
            if found.bare or not found.token_ids:
                raise EngineNonsense(
                    "the engine streamed no token ids, so what was sampled cannot be trained on exactly; "
                    "return_token_ids needs vLLM 0.10.2 or newer"
                )
            choices.append(Choice("".join(found.text), list(found.token_ids), found.finish_reason))
        return Sampled(list(self.prompt_ids), choices)

    def _line(self, line: bytes) -> list[Piece]:
        """One line: an event's data, or what only keeps the connection open."""
        if not line.startswith(b"data:"):
            return []
        content = line[5:].strip()
        if content == b"[DONE]":
            self._done = True
            return []
        try:
            event = json.loads(content)
        except ValueError as error:
            raise EngineNonsense(f"a stream's event is not JSON: {content[:200]!r}") from error
        if not isinstance(event, dict):
            raise EngineNonsense(f"a stream's event is {type(event).__name__}, not an object")
        return self._event(event)

    def _event(self, event: dict[str, Any]) -> list[Piece]:
        if event.get("error") is not None or event.get("object") == "error":
            message, code, status = described(event)
            raise error_of(status or 500, code, message, "in mid-stream")
        prompt_ids = event.get("prompt_token_ids")
        if prompt_ids is not None:
            self.prompt_ids = _ids(prompt_ids)
        choices = event.get("choices", [])
        if not isinstance(choices, list):
            raise EngineNonsense("a stream's choices are not a list")
        return [piece for choice in choices if (piece := self._choice(choice)) is not None]

    def _choice(self, choice: Any) -> Piece | None:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if not isinstance(delta, dict) or not isinstance(index, int) or not 0 <= index < len(self._completions):
            raise EngineNonsense(f"a stream's choice has no delta, or index {index!r} of {len(self._completions)}")
        found = self._completions[index]
        text, reason = delta.get("content"), choice.get("finish_reason")
        if not isinstance(text, str | None):
            raise EngineNonsense(f"a stream's content is {type(text).__name__}, not text")
        if reason == "abort":
            raise EngineUnavailable("the engine aborted the request")
        if reason is not None and reason not in get_args(FinishReason):
            raise EngineNonsense(f"finish_reason {reason!r} is neither 'stop' nor 'length'")
        ids = _ids(choice.get("token_ids") or [])
        found.bare = found.bare or bool(text and not ids and choice.get("token_ids") is None)
        found.text.append(text or "")
        found.token_ids += ids
        found.finish_reason = reason or found.finish_reason
        return Piece(index, text or "", ids, reason) if text or ids or reason else None


class WholeAnswer:
    """An answer that came whole, where a stream was asked for: one piece for each completion."""

    def __init__(self, sampled: Sampled) -> None:
        self._sampled = sampled

    def __iter__(self) -> Iterator[Piece]:
        """The completions."""
        for index, choice in enumerate(self._sampled.choices):
            yield Piece(index, choice.text, choice.token_ids, choice.finish_reason)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The same, on an event loop."""
        for piece in self:
            yield piece

    @property
    def prompt_ids(self) -> list[int]:
        """What the model saw."""
        return self._sampled.prompt_ids

    def sampled(self) -> Sampled:
        """The whole answer."""
        return self._sampled


def _ids(value: Any) -> list[int]:
    good = isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value)
    if not good:
        raise EngineNonsense("a stream's token ids are not a list of numbers")
    return list(value)
