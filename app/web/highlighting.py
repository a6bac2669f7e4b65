"""Code in answers: split into the few kinds of words that a reader tells apart by colour.

Eight classes stand for the hundreds of token types of Pygments, so that the style sheet of the page stays small. Only
languages of a list are read: a lexer is a pile of regular expressions, and what it reads was written by a model.
"""

import time
from functools import lru_cache
from html import escape

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import (
    Comment,
    Generic,
    Keyword,
    Literal,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    _TokenType,
)

MAX_CODE_CHARS = 20_000
"""Longer code is shown without colours."""
COLOUR_SECONDS = 0.5
"""Of the processor, for all code of one text; what would take longer is shown without colours. Ordinary texts take a
tenth of it. Lexers of C and its kin look for an end through all lines that follow: 20,000 empty ones took 13 s."""

LANGUAGES = {
    "bash", "c", "c++", "cpp", "csharp", "c#", "css", "diff", "docker", "dockerfile", "go", "haskell", "html",
    "ini", "java", "javascript", "js", "json", "json5", "julia", "kotlin", "latex", "lua", "make", "makefile",
    "markdown", "matlab", "md", "objective-c", "ocaml", "perl", "php", "powershell", "py", "python", "python3",
    "r", "rb", "ruby", "rs", "rust", "scala", "sh", "shell", "sql", "swift", "tex", "toml", "ts", "tsx", "jsx",
    "typescript", "xml", "yaml", "yml", "zsh", "console",
}  # fmt: skip

_KINDS: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "c"),
    (Keyword, "k"),
    (Operator.Word, "k"),
    (String, "s"),
    (Number, "m"),
    (Literal, "m"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Name.Decorator, "f"),
    (Name.Builtin, "f"),
    (Name.Tag, "k"),
    (Name.Attribute, "f"),
    (Generic.Deleted, "d"),
    (Generic.Inserted, "i"),
    (Operator, "o"),
    (Punctuation, "o"),
)
CLASSES = {f"hl-{kind}" for _, kind in _KINDS}


class Ink:
    """What is left of ``COLOUR_SECONDS`` for one text."""

    def __init__(self, seconds: float = COLOUR_SECONDS) -> None:
        self.seconds = seconds


def highlight(code: str, language: str, ink: Ink) -> str:
    """``code`` as escaped HTML with ``<span class="hl-…">``; as plain escaped text where the language is not known, or
    where reading it takes more of the processor's time than ``ink`` has left."""
    lexer = _lexer(language.strip().lower())
    if lexer is None or len(code) > MAX_CODE_CHARS or ink.seconds <= 0:
        return escape(code, quote=False)
    began = time.thread_time()
    try:
        return _coloured(code, lexer, began + ink.seconds)
    finally:
        ink.seconds -= time.thread_time() - began


def _coloured(code: str, lexer: Lexer, until: float) -> str:
    """``until``: of ``time.thread_time``; later than that, none of the code has colours."""
    parts: list[str] = []
    open_kind, run = "", ""
    for token_type, value in lexer.get_tokens(code):
        if time.thread_time() > until:
            return escape(code, quote=False)
        kind = _kind(token_type)
        if kind != open_kind:
            parts.append(_span(open_kind, run))
            open_kind, run = kind, ""
        run += value
    parts.append(_span(open_kind, run))
    return "".join(parts)


def _span(kind: str, text: str) -> str:
    if not kind or not text:
        return escape(text, quote=False)
    return f'<span class="hl-{kind}">{escape(text, quote=False)}</span>'


@lru_cache(maxsize=512)
def _kind(token_type: _TokenType) -> str:
    return next((kind for parent, kind in _KINDS if token_type in parent), "")


@lru_cache
def _lexer(language: str) -> Lexer | None:
    if language not in LANGUAGES:
        return None
    return get_lexer_by_name(language, stripnl=False, ensurenl=False)
