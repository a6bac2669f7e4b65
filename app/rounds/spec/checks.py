"""Checks of single values: each returns the value in its type or says what was wrong, by the setting's name."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.language import _


class SpecError(ValueError):
    """A setting that cannot be used. ``field`` is its name, ``message`` says both values and the mend.

    ``beside``: the setting beside which it cannot, where it could by itself.
    """

    def __init__(self, field: str, message: str, *, beside: str | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.beside = beside


def number(name: str, value: object) -> float:
    """A finite number, no boolean; else SpecError."""
    if isinstance(value, str):
        raise SpecError(name, _("%(value)s must be a number, not a text", value=repr(value)))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(name, _("%(value)s is not a finite number", value=repr(value)))
    return float(value)


def text(name: str, value: object) -> str:
    """A text that is not empty; else SpecError."""
    if not isinstance(value, str) or not value:
        raise SpecError(name, _("%(value)s is not a text", value=repr(value)))
    return value


def one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """One of the ``known`` texts; else SpecError, which lists them."""
    if not isinstance(value, str) or value not in known:
        raise SpecError(name, _("%(value)s is unknown; known are %(known)s", value=repr(value), known=", ".join(known)))
    return value


def flag(name: str, value: object) -> bool:
    """True or false; else SpecError."""
    if not isinstance(value, bool):
        raise SpecError(name, _("%(value)s is neither true nor false", value=repr(value)))
    return value


_ADDRESS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")


def address(name: str, value: object) -> str:
    """A 'host:port'; else SpecError."""
    given = text(name, value)
    found = _ADDRESS.fullmatch(given)
    if found is None or not 0 < int(found[1]) < 65536:
        raise SpecError(name, _("%(given)s is no address; write host:port, such as 10.0.0.5:29500", given=repr(given)))
    return given


@dataclass(frozen=True, slots=True)
class Check:
    """A rule for one value, and the same rule as JSON Schema."""

    rule: Callable[[str, object], Any]
    """Takes a setting's name and value; returns the value in its type, or raises SpecError."""
    schema: dict[str, Any]

    def __call__(self, name: str, value: object) -> Any:
        """Raises SpecError."""
        return self.rule(name, value)


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def rule(name: str, value: object) -> int:
        given = number(name, value)
        if given != int(given) or not low <= given <= high:
            raise SpecError(
                name,
                _("%(given)s must be a whole number from %(low)s to %(high)s", given=f"{given:g}", low=low, high=high),
            )
        return int(given)

    return Check(rule, {"type": "integer", "minimum": low, "maximum": high})


def real(low: float, high: float, *, positive: bool = False) -> Check:
    """A number from ``low`` (not itself, where ``positive``) to ``high``."""

    def rule(name: str, value: object) -> float:
        given = number(name, value)
        if not low <= given <= high or (positive and given <= 0):
            start = f"above {low:g}" if positive else f"from {low:g}"
            raise SpecError(
                name,
                _(
                    "%(given)s must be a number %(start)s to %(high)s",
                    given=f"{given:g}",
                    start=start,
                    high=f"{high:g}",
                ),
            )
        return given

    return Check(rule, {"type": "number", "exclusiveMinimum" if positive else "minimum": low, "maximum": high})


def optional(check: Check) -> Check:
    """None, or what ``check`` lets through."""
    return Check(
        lambda name, value: None if value is None else check(name, value), {"anyOf": [check.schema, {"type": "null"}]}
    )


def known(*names: str) -> Check:
    """One of these texts."""
    return Check(lambda name, value: one_of(name, value, names), {"type": "string", "enum": list(names)})


yes_or_no = Check(flag, {"type": "boolean"})
host_and_port = Check(address, {"type": "string", "examples": ["10.0.0.5:29500"]})
