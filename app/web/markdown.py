"""Hostile text into harmless HTML: a completion, a prompt, a guideline.

Markdown without raw HTML, then an allow-list, inside ``hx-disable`` so that HTMX looks at nothing in it. No image (it
would call home), no class, no id, no style, no ``data-`` attribute (``data-hx-get`` is live), links that give nothing
away.
"""

from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_FIRST_LEVEL = 3
"""A page has one first heading and second ones of its own; those of a text come below, without leaving one out."""
MAX_CHARS = 200_000
"""Longer text is shown as it is, unformatted."""


def render_markdown(text: str, *, breaks: bool = True) -> str:
    """HTML that is safe to put anywhere on a page, wrapped in one ``<div class="prose" hx-disable>``.

    Args:
        text: whatever a model or a person wrote.
        breaks: keep single line breaks, as in a chat; False joins the lines of a paragraph, as in documentation.
    """
    if len(text) > MAX_CHARS:
        return f'<div class="prose plain" hx-disable>{nh3.clean_text(text)}</div>'
    dirty = _parser(breaks).render(text)
    clean = nh3.clean(
        dirty,
        tags=TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        generic_attribute_prefixes=set(),
        link_rel="noopener nofollow ugc",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )
    return f'<div class="prose" hx-disable>{clean}</div>'


@lru_cache
def _parser(breaks: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": breaks, "maxNesting": 30})
    parser.enable(["table", "strikethrough"]).disable(["image"])
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


def _lower_headings(state: object) -> None:
    tokens = [token for token in state.tokens if token.tag in _HEADINGS]  # type: ignore[attr-defined]
    ranks = {tag: rank for rank, tag in enumerate(sorted({token.tag for token in tokens}))}
    level = _FIRST_LEVEL - 1
    for token in tokens:  # an opening and a closing one each
        if token.type == "heading_open":
            level = min(_FIRST_LEVEL + ranks[token.tag], level + 1, 6)
        token.tag = f"h{level}"
