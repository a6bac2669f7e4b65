"""LaTeX in answers: formulas as MathML, which browsers show and screen readers read without a script.

The converter's output is not trusted (it writes text through unescaped): of its tree only known elements and harmless
attributes are written anew, all text escaped.
"""

import re
from html import escape, unescape
from typing import TYPE_CHECKING

from latex2mathml.converter import convert_to_element

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TAGS = {
    "math", "menclose", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow", "mspace", "msqrt",
    "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover",
}  # fmt: skip
ATTRIBUTES = {
    "accent", "columnalign", "columnlines", "displaystyle", "fence", "form", "largeop", "linethickness", "lspace",
    "mathvariant", "maxsize", "minsize", "movablelimits", "notation", "rowlines", "rspace", "scriptlevel", "separator",
    "stretchy", "symmetric", "width",
}  # fmt: skip
"""None of them can hold an address or a style."""
_VALUE = re.compile(r"-?0?\.\d{1,4}(?:em|ex)|\+?\d{1,2}(?:\.\d{1,4})?(?:em|ex|pt|px|mu|%)?|[a-z][a-z -]{0,60}")
"""Words, and lengths that stay within a line: a formula cannot be spread over the rest of the page."""
MAX_FORMULA_CHARS = 2000
_MAX_DEPTH = 60


def formula(latex: str, *, block: bool) -> str:
    """MathML of a formula; as it was written, in ``<code>``, when it cannot be read."""
    written = f"$${latex}$$" if block else f"${latex}$"
    if len(latex) > MAX_FORMULA_CHARS or not latex.strip():
        return f"<code>{escape(written, quote=False)}</code>"
    try:
        tree = convert_to_element(latex, display="block" if block else "inline")
        return _written(tree, 0)
    except Exception:  # noqa: BLE001 - the converter fails in any way on what a model may write, and that is no fault
        return f"<code>{escape(written, quote=False)}</code>"


def _written(element: "Element", depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise ValueError("the formula is nested too deeply")
    inner = escape(unescape(element.text or ""), quote=False)
    inner += "".join(_written(child, depth + 1) for child in element)
    if element.tag not in TAGS:
        return inner
    attributes = "".join(
        f' {name}="{value}"' for name, value in element.attrib.items() if name in ATTRIBUTES and _VALUE.fullmatch(value)
    )
    if element.tag == "math" and element.attrib.get("display") == "block":
        attributes += ' display="block"'
    return f"<{element.tag}{attributes}>{inner}</{element.tag}>"
