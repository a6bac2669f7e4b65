"""Checks of single values: each returns the value in its type or says what was wrong, by the setting's name."""

import math
import re
from collections.abc import Callable
from typing import Any


class SpecError(ValueError):
    """A setting that cannot be used. ``field`` is its name, ``message`` says both values and the mend."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def number(name: str, value: object) -> float:
    """A finite number, no boolean; else SpecError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(name, f"{value!r} is not a finite number")
    return float(value)


def text(name: str, value: object) -> str:
    """A text that is not empty; else SpecError."""
    if not isinstance(value, str) or not value:
        raise SpecError(name, f"{value!r} is not a text")
    return value


def one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """One of the ``known`` texts; else SpecError, which lists them."""
    if not isinstance(value, str) or value not in known:
        raise SpecError(name, f"{value!r} is unknown; known are {', '.join(known)}")
    return value


def flag(name: str, value: object) -> bool:
    """True or false; else SpecError."""
    if not isinstance(value, bool):
        raise SpecError(name, f"{value!r} is neither true nor false")
    return value


_ADDRESS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")


def address(name: str, value: object) -> str:
    """A 'host:port'; else SpecError."""
    given = text(name, value)
    found = _ADDRESS.fullmatch(given)
    if found is None or not 0 < int(found[1]) < 65536:
        raise SpecError(name, f"{given!r} is no address; write host:port, such as 10.0.0.5:29500")
    return given


Check = Callable[[str, object], Any]
"""Takes a setting's name and value; returns the value in its type, or raises SpecError."""


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(name: str, value: object) -> int:
        given = number(name, value)
        if given != int(given) or not low <= given <= high:
            raise SpecError(name, f"{given:g} must be a whole number from {low} to {high}")
        return int(given)

    return check


def real(low: float, high: float, *, positive: bool = False) -> Check:
    """A number from ``low`` (not itself, where ``positive``) to ``high``."""

    def check(name: str, value: object) -> float:
        given = number(name, value)
        if not low <= given <= high or (positive and given <= 0):
            start = f"above {low:g}" if positive else f"from {low:g}"
            raise SpecError(name, f"{given:g} must be a number {start} to {high:g}")
        return given

    return check


def optional(check: Check) -> Check:
    """None, or what ``check`` lets through."""
    return lambda name, value: None if value is None else check(name, value)


def known(*known: str) -> Check:
    """One of these texts."""
    return lambda name, value: one_of(name, value, known)
