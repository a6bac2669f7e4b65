"""Settings that two people have open at once: a form writes what was changed in it, and nothing else.

A form carries a mark of every value that it was shown with. What is sent is laid beside these marks and beside what is
stored by then; where two people changed the same setting, neither is written before somebody has seen both.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

MARKS = "shown"
"""The name of the form's field that holds the marks."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What to store, and what stands in the way."""

    values: dict[str, Any]
    """Every value: as typed where it was changed in this form, as stored where it was not."""
    stored: dict[str, Any]
    """Changed here and by somebody else meanwhile, to something else: what is stored now."""


def marks(values: Mapping[str, Any]) -> str:
    """The marks of values that a form shows, for its field ``MARKS``."""
    return json.dumps({name: _mark(value) for name, value in values.items()}, separators=(",", ":"))


def merge(typed: Mapping[str, Any], current: Mapping[str, Any], shown: str, *, unsent: Collection[str] = ()) -> Merged:
    """What was typed, beside what is stored now.

    Args:
        shown: the marks that the form came with; without them all of ``typed`` was changed, as far as anybody knows.
        unsent: names that the form did not send and did not mean to change.
    """
    before = _read(shown)
    values: dict[str, Any] = {}
    stored: dict[str, Any] = {}
    for name, value in typed.items():
        now, was = current[name], before.get(name)
        if was is None or was == _mark(now) or value == now:
            values[name] = value
        elif was == _mark(value) or name in unsent:
            values[name] = now
        else:
            values[name] = value
            stored[name] = now
    return Merged(values, stored)


def changed(typed: Mapping[str, Any], shown: str) -> set[str]:
    """The names whose values are not as they were shown."""
    before = _read(shown)
    return {name for name, value in typed.items() if before.get(name) != _mark(value)}


def _mark(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _read(shown: str) -> dict[str, str]:
    try:
        before = json.loads(shown)
    except (ValueError, RecursionError):  # the second where it is nested too deeply
        return {}
    return before if isinstance(before, dict) else {}
