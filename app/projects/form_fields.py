"""What a form of settings is made of."""

from dataclasses import dataclass
from typing import Any, Literal

from app.language import _

Choices = tuple[tuple[str, str], ...]
YES = "yes"
FLAG: Choices = (("", _("no")), (YES, _("yes")))
"""What a setting that is on or off is chosen from."""


@dataclass(frozen=True, slots=True)
class Field:
    """One input. ``name`` is dotted as errors name it; ``only``: another field, and the values of it
    (separated by spaces) for which this one is read."""

    name: str
    label: str
    hint: str = ""
    kind: Literal["text", "number", "textarea", "select"] = "number"
    choices: Choices = ()
    placeholder: str = ""
    required: bool = False
    only: tuple[str, str] | None = None
    notes: Choices = ()
    """What to say of each choice while it is chosen: value and text."""

    @property
    def wide(self) -> bool:
        """Whether it takes a whole line."""
        return self.kind == "textarea" or self.required

    @property
    def rows(self) -> int:
        """Lines of a textarea."""
        return 10 if self.name == "guidelines" else 3


@dataclass(frozen=True, slots=True)
class Section:
    """Fields under one heading; ``open`` ones are shown from the start."""

    title: str
    hint: str
    fields: tuple[Field, ...]
    open: bool = False


def written(value: Any) -> str:
    """A setting as its field holds it."""
    if value is None or value is False:
        return ""
    if value is True:
        return YES
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
