"""The language of what is being done now: of a request, or English.

A request's language is known in two steps, its header first and then, where somebody is signed in, their own choice.
The second is found in another thread than the one that renders, with a copy of the context: so what the context
holds is a cell that both see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from app.language.negotiation import DEFAULT, LANGUAGES


class _Cell:
    __slots__ = ("tag",)

    def __init__(self, tag: str) -> None:
        self.tag = tag


_current: ContextVar[_Cell | None] = ContextVar("language", default=None)


def current() -> str:
    """The tag of the language in which texts are said now."""
    cell = _current.get()
    return DEFAULT if cell is None else cell.tag


def direction() -> str:
    """'ltr' or 'rtl'."""
    return LANGUAGES[current()].direction


def use(tag: str | None) -> None:
    """Go on in this language; None, or one that there is no catalogue of, changes nothing."""
    cell = _current.get()
    if cell is not None and tag in LANGUAGES:
        cell.tag = tag


@contextmanager
def speaking(tag: str) -> Iterator[None]:
    """Within it, texts are said in this language unless somebody's own choice says otherwise."""
    token = _current.set(_Cell(tag if tag in LANGUAGES else DEFAULT))
    try:
        yield
    finally:
        _current.reset(token)
