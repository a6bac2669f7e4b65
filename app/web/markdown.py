"""Hostile text into harmless HTML: a completion, a prompt, a guideline.

Markdown without raw HTML, code in colours, formulas as MathML; then an allow-list, inside ``hx-disable`` so that HTMX
looks at nothing in it. No image (it would call home), no id, no style, no class but those of coloured code and of
formulas, no ``data-`` attribute (``data-hx-get`` is live), links that give nothing away.
"""

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

from app.web import mathematics
from app.web.highlighting import CLASSES, Ink, highlight

_PROSE = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
TAGS = _PROSE | mathematics.TAGS
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "span": {"tabindex"},
    **{tag: set(mathematics.ATTRIBUTES) for tag in mathematics.TAGS},
    "math": {*mathematics.ATTRIBUTES, "display"},
}
_SCHEMES = {"http", "https", "mailto"}
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_FIRST_LEVEL = 3
"""A page has one first heading and second ones of its own; those of a text come below, without leaving one out."""
MAX_CHARS = 100_000
"""Longer text is shown as it is, unformatted."""
MAX_FORMULAS = 300
"""In one text; those after it are shown as they were written."""
_OPENINGS = ("\\(", "\\[", "\\begin{")
"""What begins a formula, beside dollars. For each, the parser looks for its end through the rest of the text, so that
a text of nothing else would take minutes: beyond ``MAX_FORMULAS`` of them, they begin nothing."""
WIDE_FORMULA_CHARS = 24
"""A formula written in no more fits the width of a phone; a longer one is a stop of Tab, to be scrolled by keys."""


def render_markdown(text: str, *, breaks: bool = True) -> str:
    """HTML that is safe to put anywhere on a page, wrapped in one ``<div class="prose" dir="auto" hx-disable>``.

    Args:
        text: whatever a model or a person wrote.
        breaks: keep single line breaks, as in a chat; False joins the lines of a paragraph, as in documentation.
    """
    if len(text) > MAX_CHARS:
        return f'<div class="prose plain" dir="auto" hx-disable>{nh3.clean_text(text)}</div>'
    return _rendered(text, breaks)


@lru_cache(maxsize=1024)
def _rendered(text: str, breaks: bool) -> str:
    searched = sum(map(text.count, _OPENINGS)) <= MAX_FORMULAS
    dirty = _parser(breaks, searched).render(text, {"formulas": 0, "ink": Ink()})
    return f'<div class="prose" dir="auto" hx-disable>{_cleaner().clean(dirty)}</div>'


@lru_cache
def _cleaner() -> nh3.Cleaner:
    """Made once: making it takes five times as long as cleaning an answer."""
    return nh3.Cleaner(
        tags=TAGS,
        attributes=_ATTRIBUTES,
        allowed_classes={"span": CLASSES | {"formula"}},
        url_schemes=_SCHEMES,
        generic_attribute_prefixes=set(),
        link_rel="noopener nofollow ugc",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )


@lru_cache
def _parser(breaks: bool, searched: bool) -> MarkdownIt:
    """``searched``: formulas in brackets and environments are looked for, too."""
    options: dict[str, Any] = {"html": False, "linkify": False, "breaks": breaks, "maxNesting": 30}
    parser = MarkdownIt("commonmark", options)
    parser.enable(["table", "strikethrough"]).disable(["image"])
    # Prices are no formulas: no space inside the dollars, no digit after the second.
    dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    if searched:
        texmath_plugin(parser, delimiters="brackets")
        amsmath_plugin(parser)
        parser.inline.ruler.before("escape", "environment", _environment)
    for name in (
        "amsmath",
        "environment",
        "math_inline",
        "math_inline_double",
        "math_block",
        "math_block_eqno",
        "math_single",
        "math_block_label",
    ):
        parser.add_render_rule(name, _formula)
    parser.add_render_rule("fence", _fence)
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


def _fence(_renderer: object, tokens: Sequence[Token], index: int, _options: Any, env: Any) -> str:
    language = (tokens[index].info.split() or [""])[0]
    return f"<pre><code>{highlight(tokens[index].content, language, env['ink'])}</code></pre>\n"


def _environment(state: StateInline, silent: bool) -> bool:
    """An environment in the midst of a line, where the plugin looks for none and Markdown would eat its ``\\\\``."""
    if not state.src.startswith("\\begin{", state.pos):
        return False
    end = mathematics.environment_end(state.src, state.pos, state.posMax)
    if end is None:
        return False
    if not silent:
        state.push("environment", "math", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _formula(_renderer: object, tokens: Sequence[Token], index: int, _options: Any, env: Any) -> str:
    token = tokens[index]
    env["formulas"] += 1
    if env["formulas"] > MAX_FORMULAS:
        return f"<code>{escape(token.content, quote=False)}</code>"
    bare = token.type in ("amsmath", "environment")
    if token.type == "environment":
        block = mathematics.is_display(token.content)
    else:
        block = bare or token.type.startswith("math_block") or "double" in token.type
    wide = len(token.content) > WIDE_FORMULA_CHARS
    html = mathematics.formula(token.content, block=block, written=token.content if bare else None)
    if not html.startswith("<math") or not (block or wide):
        return html
    # A formula has no line breaks, and browsers do not scroll within <math>: what may be too wide gets a box around it.
    stop = ' tabindex="0"' if wide else ""
    return f'<span class="formula"{stop}>{html}</span>'


def _lower_headings(state: object) -> None:
    tokens = [token for token in state.tokens if token.tag in _HEADINGS]  # type: ignore[attr-defined]
    ranks = {tag: rank for rank, tag in enumerate(sorted({token.tag for token in tokens}))}
    level = _FIRST_LEVEL - 1
    for token in tokens:  # an opening and a closing one each
        if token.type == "heading_open":
            level = min(_FIRST_LEVEL + ranks[token.tag], level + 1, 6)
        token.tag = f"h{level}"
