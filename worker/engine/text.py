"""Text of tokens as they arrive: never half a character, never past a stop string."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
_PENDING_BYTES = 3  # an unfinished UTF-8 character decodes to at most this many replacement characters
_SILENT_TOKENS = 16  # special tokens in a row after which they are no longer decoded again

Decode = Callable[[Sequence[int]], str]
"""Text of token ids, special tokens left out."""


class IncrementalText:
    """Turns a growing list of token ids into text that only ever grows.

    Byte-level tokens may end inside a character, and some decoders look at neighbours (spaces, bytes). So a window
    of recent tokens is decoded again with every token; its text is taken except for an unfinished end, and the
    window moves on whenever it ends cleanly.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._context: list[int] = []  # tokens already taken in full, decoded along for the sake of their neighbours
        self._context_text = ""
        self._open: list[int] = []  # tokens since
        self._taken = 0  # characters of the open tokens' text already handed out

    def push(self, token: int) -> str:
        """The text that became certain with ``token``."""
        self._open.append(token)
        text = self._open_text()
        certain = _without_pending(text)
        new = certain[self._taken :]
        self._taken = max(self._taken, len(certain))
        if len(certain) == len(text) and (text or len(self._open) > _SILENT_TOKENS):
            self._context, self._open, self._taken = self._open, [], 0
            self._context_text = self._decode(self._context)
        return new

    def flush(self) -> str:
        """What was held back, once no more tokens come: an unfinished character shows as U+FFFD."""
        rest = self._open_text()[self._taken :]
        self._taken += len(rest)
        return rest

    def _open_text(self) -> str:
        return self._decode([*self._context, *self._open])[len(self._context_text) :]


class StoppableText:
    """Text of a completion that ends before the first stop string, and what of it may be shown already."""

    def __init__(self, decode: Decode, stop: Sequence[str], *, include_stop: bool) -> None:
        self._incremental = IncrementalText(decode)
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._held = max((len(text) for text in stop), default=1) - 1
        self._shown = 0
        self._ended = False
        self.text = ""
        self.stopped_by: str | None = None

    def push(self, token: int) -> bool:
        """Take one more token; True when a stop string is complete."""
        return self._append(self._incremental.push(token))

    def end(self) -> None:
        """No more tokens come: everything may be shown. A stop string may still turn up in the last characters."""
        if self.stopped_by is None:
            self._append(self._incremental.flush())
        self._ended = True

    def take(self) -> str:
        """Text not taken before that can no longer become part of a stop string."""
        end = len(self.text) if self._ended or self.stopped_by is not None else len(self.text) - self._held
        new = self.text[self._shown : max(end, self._shown)]
        self._shown += len(new)
        return new

    def _append(self, new: str) -> bool:
        if not new:
            return False
        start = max(len(self.text) - self._held, 0)
        self.text += new
        found = [(at, stop) for stop in self._stop if (at := self.text.find(stop, start)) >= 0]
        if not found:
            return False
        at, self.stopped_by = min(found)
        self.text = self.text[: at + len(self.stopped_by)] if self._include_stop else self.text[:at]
        return True


def _without_pending(text: str) -> str:
    """``text`` without the replacement characters at its end that more bytes may still turn into a character."""
    end = len(text)
    while end > 0 and len(text) - end < _PENDING_BYTES and text[end - 1] == _REPLACEMENT:
        end -= 1
    return text[:end]
