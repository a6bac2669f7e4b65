"""What reviewers are asked, in words: on the settings page, and where a change of it is shown to them."""

from typing import Any

from app.language import _, listed, say
from app.projects.reviewing import Reviewing

CHOICES = {
    "mode": (("pair", _("Two answers side by side")), ("ranking", _("Several answers to be put in order"))),
    "scale": (
        ("ab", _("A or B")),
        ("ab_tie", _("A, tie or B")),
        ("ab_tie_bad", _("A, tie, both bad or B")),
        ("strength", _("Slightly, clearly or much better on each side; tie; both bad")),
    ),
    "comment": (("off", _("Not asked for")), ("optional", _("Optional")), ("required", _("Required"))),
    "skip_reason": (("off", _("Not asked for")), ("optional", _("Optional")), ("required", _("Required"))),
    "criterion": (("preference", _("A, tie or B")), ("likert", _("1 to 5 for each answer"))),
}
_NAMES = {
    "mode": _("Reviewers see"),
    "scale": _("Choices for two answers"),
    "criteria": _("Criteria"),
    "criteria_required": _("A choice needs all of them"),
    "comment": _("A comment"),
    "comment_min_chars": _("Shortest comment, characters"),
    "tags": _("Reasons to tick"),
    "correction": _("Reviewers may edit the answer they prefer"),
    "skip_reason": _("A reason for skipping"),
}
"""Of what shows on the page where people compare, in its order."""
_OF_PAIRS = frozenset({"scale", "criteria", "criteria_required"})


def in_words(name: str, value: Any) -> str:
    """A setting, as a form or ``Reviewing.model_dump`` has it, as people read it."""
    if name == "criteria":
        scales = dict(CHOICES["criterion"])
        return listed(f"{item['label']} ({say(scales[item['scale']])})" for item in value) or _("nothing")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return listed(value) or _("nothing")
    return dict(CHOICES.get(name, ())).get(value, str(value)) or _("nothing")


def changes(before: Reviewing, now: Reviewing) -> tuple[tuple[str, str, str], ...]:
    """What a reviewer is asked otherwise: name, how it was, how it is; nothing that the page does not show."""
    old, new = before.model_dump(), now.model_dump()
    ranking = before.mode == now.mode == "ranking"
    shown = [name for name in _NAMES if not (ranking and name in _OF_PAIRS)]
    return tuple(
        (_NAMES[name], in_words(name, old[name]), in_words(name, new[name])) for name in shown if old[name] != new[name]
    )
