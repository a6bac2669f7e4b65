"""``/api/docs``: the API's description as a page of ours, readable offline and without a script from elsewhere."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts import access
from app.accounts.principal import Principal
from app.accounts.scopes import SCOPES
from app.web.deps import Render

router = APIRouter(include_in_schema=False)
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Value:
    """One field of a body, or one parameter."""

    name: str
    kind: str
    required: bool
    description: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call, as the page shows it."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    scope: str | None
    parameters: list[Value]
    body: list[Value]
    curl: str
    answers: list[tuple[str, str, str]]
    """Status, meaning, example."""


@dataclass(frozen=True, slots=True)
class Section:
    """A tag and its calls."""

    name: str
    description: str
    operations: list[Operation] = field(default_factory=list)


@router.get("/api/docs")
def docs(_me: Annotated[Principal | None, access.optional()], request: Request, render: Render) -> Response:
    """Every call, with its fields, an example to copy, and its answers."""
    schema = request.app.openapi()
    return render(
        "api/docs.html",
        info=schema["info"],
        sections=sections(schema, str(request.base_url).rstrip("/")),
        scopes=SCOPES,
    )


def sections(schema: dict[str, Any], base_url: str) -> list[Section]:
    """The calls by tag, in the order of the tags; those without one at the end."""
    found = {tag["name"]: Section(tag["name"], tag["description"]) for tag in schema.get("tags", [])}
    for path, operations in schema.get("paths", {}).items():
        for method, spec in operations.items():
            name = (spec.get("tags") or ["other"])[0]
            section = found.setdefault(name, Section(name, ""))
            section.operations.append(_operation(schema, method.upper(), path, spec, base_url))
    return [section for section in found.values() if section.operations]


def _operation(schema: dict[str, Any], method: str, path: str, spec: dict[str, Any], base_url: str) -> Operation:
    contents: dict[str, Any] = spec.get("requestBody", {}).get("content", {})
    content_type = next(iter(contents), "")
    content: dict[str, Any] = contents.get(content_type, {})
    body_schema = _resolve(schema, content.get("schema", {}))
    example = content.get("example", _example(schema, body_schema) if content else None)
    return Operation(
        anchor=spec.get("operationId", f"{method}-{path}"),
        method=method,
        path=path,
        summary=spec.get("summary", ""),
        description=spec.get("description", ""),
        scope=spec.get("x-scope"),
        parameters=[
            Value(
                name=item["name"],
                kind=_kind(schema, item.get("schema", {})),
                required=item.get("required", False),
                description=item.get("description", ""),
                place=item["in"],
            )
            for item in spec.get("parameters", [])
        ],
        body=_fields(schema, body_schema),
        curl=_curl(method, base_url + path, content_type, example, spec.get("parameters", [])),
        answers=[_answer(schema, status, item) for status, item in spec.get("responses", {}).items()],
    )


def _answer(schema: dict[str, Any], status: str, item: dict[str, Any]) -> tuple[str, str, str]:
    content = item.get("content", {}).get("application/json")
    shown = ""
    if content is not None and content.get("schema"):
        example = content.get("example", _example(schema, content["schema"]))
        shown = json.dumps(example, indent=2, ensure_ascii=False)
    return status, item.get("description", ""), shown


def _fields(schema: dict[str, Any], spec: dict[str, Any]) -> list[Value]:
    required = spec.get("required", [])
    return [
        Value(name, _kind(schema, inner), name in required, _resolve(schema, inner).get("description", ""))
        for name, inner in spec.get("properties", {}).items()
    ]


def _resolve(schema: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference, with what stands beside the reference."""
    if "$ref" not in spec:
        return spec
    target: Any = schema
    for part in spec["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in spec.items() if key != "$ref"}}


def _kind(schema: dict[str, Any], spec: dict[str, Any]) -> str:
    """``string``, ``array of object``, ``one of a, b`` …"""
    spec = _resolve(schema, spec)
    if "enum" in spec:
        return "one of " + ", ".join(str(value) for value in spec["enum"])
    if "const" in spec:
        return str(spec["const"])
    choices = spec.get("anyOf") or spec.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_kind(schema, choice) for choice in choices))
    kind = spec.get("type", "any")
    if kind == "array":
        return f"array of {_kind(schema, spec.get('items', {}))}"
    return str(spec.get("format", kind) if kind == "string" else kind)


def _example(schema: dict[str, Any], spec: dict[str, Any], depth: int = 0) -> Any:
    """An example: the schema's own, or one put together from its fields."""
    spec = _resolve(schema, spec)
    for key in ("example", "default", "const"):
        if spec.get(key) is not None:
            return spec[key]
    for key in ("examples", "enum"):
        if spec.get(key):
            return spec[key][0]
    choices = spec.get("anyOf") or spec.get("oneOf")
    if choices:
        return _example(schema, choices[0], depth)
    kind = spec.get("type")
    if kind == "object" or "properties" in spec:
        if depth >= _MAX_DEPTH:
            return {}
        return {name: _example(schema, inner, depth + 1) for name, inner in spec.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema, spec["items"], depth + 1)] if spec.get("items") and depth < _MAX_DEPTH else []
    plain = {"string": _STRINGS.get(spec.get("format", ""), "…"), "integer": 1, "number": 0.5, "boolean": True}
    return plain.get(str(kind))


_STRINGS = {
    "uuid": "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
    "date-time": "2026-11-23T09:00:00Z",
    "binary": "@file",
}


def _curl(method: str, url: str, content_type: str, example: Any, parameters: list[dict[str, Any]]) -> str:
    lines = [f"curl -X {method} '{url}'" if method != "GET" else f"curl '{url}'"]
    lines.append('-H "Authorization: Bearer $HONE_TOKEN"')
    lines += [f"-H '{item['name']}: …'" for item in parameters if item["in"] == "header"]
    if content_type == "multipart/form-data" and isinstance(example, dict):
        lines += [f"-F '{name}={value}'" for name, value in example.items()]
    elif content_type:
        lines.append(f"-H 'Content-Type: {content_type}'")
        lines.append(f"-d '{json.dumps(example, ensure_ascii=False)}'")
    return " \\\n  ".join(lines)
