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


_NAMED = re.compile(r"\\(begin|end)\{([A-Za-z]+\*?)\}")
_COLUMNS = re.compile(r"(\\begin\{(?:alignat|alignedat)\*?\})\{\d{1,2}\}")
_UNSEEN = re.compile(r"\\(?:nonumber|notag)(?![A-Za-z])|\\label\{[^{}]*\}|(?<=\\\\)\[-?[\d.]{1,6} ?[a-z]{2}\]")
"""What shows nothing: numbers left out, names to refer to, the height of a line's end."""
_READ = {
    "array", "cases", "smallmatrix", "split", *(f"{kind}matrix{star}" for kind in ("", *"pbBvV") for star in ("", "*")),
}  # fmt: skip
"""Environments that the converter knows; it writes the lines of others one after another, with their signs."""
_READ_AS = {
    **dict.fromkeys(("align", "aligned", "alignat", "alignedat", "flalign", "eqnarray"), "split"),
    **dict.fromkeys(("gather", "gathered", "multline", "multlined"), "matrix"),
    "dcases": "cases",
    "equation": "",
}
"""Those that look like one of them. Equations are not numbered: each formula would begin with 1."""
_DISPLAYED = {"align", "alignat", "flalign", "eqnarray", "gather", "multline", "equation"}


def formula(latex: str, *, block: bool, written: str | None = None) -> str:
    """MathML of a formula; as it was ``written``, in ``<code>``, when it cannot be read."""
    if written is None:
        written = f"$${latex}$$" if block else f"${latex}$"
    if len(latex) > MAX_FORMULA_CHARS or not latex.strip():
        return f"<code>{escape(written, quote=False)}</code>"
    try:
        tree = convert_to_element(_readable(latex), display="block" if block else "inline")
        return _written(tree, 0)
    except Exception:  # noqa: BLE001 - the converter fails in any way on what a model may write, and that is no fault
        return f"<code>{escape(written, quote=False)}</code>"


def environment_end(text: str, start: int, end: int) -> int | None:
    """Where an environment that can be read ends, of those that begin at ``start``; None if none does."""
    begun = _NAMED.match(text, start, end)
    if begun is None or begun[1] == "end" or _read_as(begun[2]) is None:
        return None
    depth = 0
    for found in _NAMED.finditer(text, start, end):
        depth += 1 if found[1] == "begin" else -1
        if depth == 0:
            return found.end() if found[2] == begun[2] else None
    return None


def is_display(latex: str) -> bool:
    """Whether an environment stands on lines of its own wherever it is written; matrices and cases do not."""
    found = _NAMED.match(latex)
    return found is not None and found[2].removesuffix("*") in _DISPLAYED


def _read_as(name: str) -> str | None:
    return name if name in _READ else _READ_AS.get(name.removesuffix("*"))


def _readable(latex: str) -> str:
    """The same in what the converter knows.

    Raises:
        ValueError: an environment that it does not.
    """

    def named(found: re.Match[str]) -> str:
        name = _read_as(found[2])
        if name is None:
            raise ValueError(f"the environment {found[2]} is not known")
        return f"\\{found[1]}{{{name}}}" if name else " "

    return _NAMED.sub(named, _UNSEEN.sub("", _COLUMNS.sub(r"\1", latex)))


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
