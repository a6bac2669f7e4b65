"""Finds texts for people that do not go through ``_`` or ``_n``: in templates, in Python, in scripts."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from typing import Any

from jinja2 import Environment, nodes

_SPOKEN = ("alt", "title", "placeholder", "label", "data-label", "data-said", "aria-label", "aria-valuetext")
"""Attributes that are read or shown."""
_NOT_PROSE = {"script", "style", "code", "pre", "kbd"}
_EMPTY = {"meta", "link", "input", "br", "hr", "img", "path", "line", "circle", "rect", "polyline"}
_NAMES = {"Hone"}
_HOLE = "\N{OBJECT REPLACEMENT CHARACTER}"
_WORD = re.compile(r"[^\W\d_]{2,}")
_TOKEN = re.compile(r"[-a-z0-9_./#?&=:,]*| [-a-z]+|[-./#a-z0-9_?&]+=|[-a-z]+\.?")
"""Addresses, values, classes, names of blocks; and ' checked', ' open': a bare attribute or a class more."""
_ATTRIBUTE = re.compile(r' [-a-z]+="[^"]*"')
_NOT_SAID = {"class", "kind", "type", "autocomplete", "inputmode", "attrs", "fields"}
"""Arguments of macros that nobody reads (of ``attrs``, what is read is looked at)."""


class _Prose(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{name}={value}" for name, value in attrs if name in _SPOKEN and value and _is_prose(value)]
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        said = _ATTRIBUTE.sub("", data)  # macros make attributes, too
        if not _NOT_PROSE.intersection(self._open) and _is_prose(said):
            self.found.append(" ".join(said.split()))


def in_template(environment: Environment, source: str) -> list[str]:
    """What a template says in plain words: text, spoken attributes, and strings that its expressions put out."""
    bare = re.sub(r"{#.*?#}", "", source, flags=re.DOTALL)
    bare = re.sub(r"{% block (\w*class|title|title_end) %}.*?{% endblock %}", _title, bare)
    prose = _Prose()
    prose.feed(re.sub(r"{{.*?}}|{%.*?%}", _HOLE, bare, flags=re.DOTALL))
    strings = (text for text in _put_out(environment.parse(source)) if not _TOKEN.fullmatch(text))
    return [*prose.found, *strings]


def _title(block: re.Match[str]) -> str:
    return "" if block[1].endswith("class") else block[0]


def _is_prose(text: str) -> bool:
    return any(word not in _NAMES for word in _WORD.findall(text.replace(_HOLE, " ")))


def _put_out(node: nodes.Node) -> Iterator[str]:
    """String constants that can reach the page; not what is compared, looked up or given to a filter."""
    if isinstance(node, nodes.Const):
        if isinstance(node.value, str) and _is_prose(node.value):
            yield node.value
        return
    for part in _PARTS.get(type(node), nodes.Node.iter_child_nodes)(node):
        if part is not None:
            yield from _put_out(part)


def _of_call(node: Any) -> Iterator[nodes.Node]:
    if getattr(node.node, "name", "") not in ("_", "_n"):
        yield from node.args
    for given in node.kwargs:
        if given.key not in _NOT_SAID:
            yield given.value
        elif isinstance(given.value, nodes.Dict):
            yield from (pair.value for pair in given.value.items if getattr(pair.key, "value", "") in _SPOKEN)


def _nothing(_node: Any) -> tuple[nodes.Node, ...]:
    return ()


_PARTS: dict[type[nodes.Node], Callable[[Any], Iterable[nodes.Node | None]]] = {
    nodes.Call: _of_call,
    nodes.CondExpr: lambda node: (node.expr1, node.expr2),
    nodes.Filter: lambda node: (node.node,),
    nodes.For: lambda node: (node.iter, *node.body, *node.else_),
    nodes.Getitem: lambda node: () if isinstance(node.node, nodes.Const) else (node.node,),
    nodes.If: lambda node: (*node.body, *node.elif_, *node.else_),
    nodes.Pair: lambda node: (node.value,),
    nodes.Compare: _nothing,
    nodes.Test: _nothing,
    nodes.Extends: _nothing,
    nodes.Include: _nothing,
    nodes.Import: _nothing,
}
"""The parts of a node that can reach the page; of any other node, all of them."""


def in_python(source: str) -> list[str]:
    """Literals where a page takes its words from: ``mend=``, ``flash=``, ``notice=``, titles of errors."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in ("mend", "flash", "notice"):
            found += _literals(node.value)
        elif isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            for line in node.body:
                if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                    target = line.targets[0] if isinstance(line, ast.Assign) else line.target
                    found += _literals(line.value) if getattr(target, "id", "") == "title" else []
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
            if name.endswith(("InvalidError", "NotFoundError", "ConflictError", "SpecError", "ConversationError")):
                found += _literals(node.exc.args[-1])
    return found


def _literals(value: ast.expr) -> list[str]:
    if isinstance(value, ast.IfExp):
        return _literals(value.body) + _literals(value.orelse)
    if isinstance(value, ast.BinOp):
        return _literals(value.left) + _literals(value.right)
    said = ast.unparse(value) if isinstance(value, ast.JoinedStr) else getattr(value, "value", None)
    return [said] if isinstance(said, str) and isinstance(value, ast.JoinedStr | ast.Constant) and said else []


_SCRIPT = re.compile(
    r"""(?:textContent\s*=|\b(?:say|notify|Error)\(|aria-label",|\btext:)\s*(?:[^;_"'`]*\?\s*)?(["'`])(.*?)\1"""
)


def in_script(source: str) -> list[str]:
    """Literals that a script writes, announces or throws."""
    return [match[2] for match in _SCRIPT.finditer(source) if _is_prose(match[2])]
