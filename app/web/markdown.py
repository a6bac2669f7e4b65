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
_HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
"""A page has one first heading, and it is not the model's to write."""
MAX_CHARS = 200_000
"""Longer text is shown as it is, unformatted."""


def render_markdown(text: str) -> str:
    """HTML that is safe to put anywhere on a page, wrapped in one ``<div class="prose" hx-disable>``."""
    if len(text) > MAX_CHARS:
        return f'<div class="prose plain" hx-disable>{nh3.clean_text(text)}</div>'
    dirty = _parser().render(text)
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
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True, "maxNesting": 30})
    parser.enable(["table", "strikethrough"]).disable(["image"])
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


def _lower_headings(state: object) -> None:
    for token in state.tokens:  # type: ignore[attr-defined]
        token.tag = _HEADINGS.get(token.tag, token.tag)
