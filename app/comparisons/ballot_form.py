"""A ballot as the page's form sends it: the same fields with and without a script.

``choice`` is the value of the button pressed, with what belongs to it behind a colon: 'a', 'b:3' (strength),
'skip:unclear', 'flag:broken', 'ranked'. Criteria are ``criterion-KEY`` (or ``criterion-KEY-a`` and ``-b`` on a Likert
scale), reasons ``tags``, places of a ranking ``place-0`` … (1 is best, equal numbers tie), edits ``corrected-0`` ….
"""

from collections.abc import Sequence
from typing import Any, get_args

from starlette.datastructures import FormData

from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import COUNTED, Choice
from app.language import _
from app.lines import with_newlines
from app.projects.reviewing import MAX_ANSWERS, Reviewing

LETTERS = "ABCDEFGH"
"""What answers are called on the page, in the order in which they are shown."""


def read(fields: FormData, asks: Reviewing, answers: Sequence[str]) -> dict[str, Any]:
    """What the service takes of a ballot.

    Args:
        answers: as they were shown, to know which of them was edited; needed where the form ``holds_edits``.

    Raises:
        VoteInvalidError: no button of the page sends this, or another answer was edited than the one chosen.
    """
    said, _, detail = str(fields.get("choice", "")).partition(":")
    choice = _choice(said)
    ballot: dict[str, Any] = {
        "choice": choice,
        "comment": _text(fields, "comment"),
        "seconds": seconds_of(str(fields.get("seconds", ""))),
        "idempotency_key": _text(fields, "key"),
    }
    if choice not in COUNTED:
        # What was ticked before somebody passed the pair on belongs to no judgement.
        return ballot | {"reason": detail or None}
    ballot["strength"] = _strength(detail) if detail else None
    ballot["tags"] = [str(tag) for tag in fields.getlist("tags")]
    ballot["criteria"] = _criteria(fields, asks)
    if choice == "ranked":
        ballot["ranking"] = _ranking(fields)
    ballot["corrected"] = _corrected(fields, answers, _best(choice, ballot.get("ranking")))
    return ballot


def holds_edits(fields: FormData) -> bool:
    """Whether the form has fields in which answers can be edited."""
    return "corrected-0" in fields


def seconds_of(value: str) -> float | None:
    """What the page measured; anything else than a sensible number of seconds is as good as nothing."""
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _choice(value: str) -> Choice:
    for choice in get_args(Choice):
        if choice == value:
            return choice  # type: ignore[no-any-return]
    raise VoteInvalidError(
        _("The choice %(value)s is unknown.", value=repr(value)), mend=_("Choose with one of the buttons of the page.")
    )


def _text(fields: FormData, name: str) -> str | None:
    return str(fields.get(name, "")) or None


def _strength(detail: str) -> int:
    if detail not in ("1", "2", "3"):
        raise VoteInvalidError(
            _("The strength %(detail)s is unknown.", detail=repr(detail)), mend=_("Choose with one of the buttons.")
        )
    return int(detail)


def _criteria(fields: FormData, asks: Reviewing) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for criterion in asks.criteria:
        name = f"criterion-{criterion.key}"
        if criterion.scale == "preference":
            if fields.get(name):
                found[criterion.key] = str(fields[name])
            continue
        points = {side: str(fields[f"{name}-{side}"]) for side in ("a", "b") if fields.get(f"{name}-{side}")}
        if points:
            found[criterion.key] = {side: int(text) if text.isdecimal() else text for side, text in points.items()}
    return found


def _ranking(fields: FormData) -> list[list[int]]:
    tiers: dict[int, list[int]] = {}
    for place in range(MAX_ANSWERS):
        if f"place-{place}" not in fields:
            break
        text = str(fields[f"place-{place}"])
        if not text.isdecimal() or len(text) > 2:
            raise VoteInvalidError(
                _("Answer %(place)s has no place yet.", place=LETTERS[place]),
                mend=_("Give every answer a place; equal places are ties."),
            )
        tiers.setdefault(int(text), []).append(place)
    return [tiers[number] for number in sorted(tiers)]


def _best(choice: Choice, ranking: list[list[int]] | None) -> int | None:
    if ranking:
        return ranking[0][0] if len(ranking[0]) == 1 else None
    return {"a": 0, "b": 1}.get(choice)


def _corrected(fields: FormData, answers: Sequence[str], best: int | None) -> str | None:
    edits = {place: _lines(str(fields.get(f"corrected-{place}", ""))) for place in range(len(answers))}
    changed = [place for place, text in edits.items() if text and text != _lines(answers[place])]
    others = [place for place in changed if place != best]
    if others:
        raise VoteInvalidError(
            _("You edited answer %(others)s, but did not choose it.", others=LETTERS[others[0]]),
            mend=_("Edit the answer that you find better, or undo the edit."),
        )
    return edits[best] if changed and best is not None else None


def _lines(text: str) -> str:
    return with_newlines(text).strip()
