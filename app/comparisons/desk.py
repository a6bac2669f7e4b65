"""What the page shows of a comparison: answers with their lengths, the buttons of its scale, what was said before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.comparisons import queries
from app.comparisons.ballot_form import LETTERS
from app.comparisons.records import FLAG_REASONS, SKIP_REASONS, Choice, Leased
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Project
from app.language import _, _n
from app.language.figures import Figure
from app.projects.queue import queue_of
from app.projects.reviewing import LIKERT, Reviewing, reviewing_of

SAID: dict[Choice, str] = {
    "a": _("A is better"),
    "b": _("B is better"),
    "tie": _("Tie"),
    "both_bad": _("Both bad"),
    "ranked": _("Ranked"),
    "skip": _("Skipped"),
    "flag": _("Flagged"),
}
"""How a choice is called on the page."""
STRENGTH_NAMES = {1: _("slightly"), 2: _("clearly"), 3: _("much")}
STRENGTHS: dict[str, dict[int, str]] = {
    "a": {1: _("A is slightly better"), 2: _("A is clearly better"), 3: _("A is much better")},
    "b": {1: _("B is slightly better"), 2: _("B is clearly better"), 3: _("B is much better")},
}
BOTH: tuple[Choice, ...] = ("tie", "both_bad")

FOLDED_CHARS = 2200
FOLDED_LINES = 36
"""When the longest answer is longer than one of these, all are shown up to the same height at first."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as it stands on the page."""

    letter: str
    text: str
    length: str
    """'312 words', or characters where the language has no spaces."""
    share: int
    """Percent of the longest one's characters."""


@dataclass(frozen=True, slots=True)
class Button:
    """A choice that the scale offers."""

    value: str
    """What the form sends: 'a', or 'a:3' with a strength."""
    key: str
    """The name of its key binding."""
    short: str
    more: str
    said: str

    @property
    def side(self) -> str:
        """'a' or 'b' where it prefers one."""
        return self.value[0] if self.value.partition(":")[0] in ("a", "b") else ""


def shown_answers(texts: tuple[str, ...]) -> list[Shown]:
    """The answers with letters and lengths, in the order in which they stand."""
    longest = max(1, *(len(text) for text in texts))
    return [
        Shown(letter, text, _length(text), max(1, round(100 * len(text) / longest)))
        for letter, text in zip(LETTERS, texts, strict=False)
    ]


def is_long(texts: tuple[str, ...]) -> bool:
    """Whether the answers are folded at first, or a message can be put away."""
    return any(len(text) > FOLDED_CHARS or text.count("\n") > FOLDED_LINES for text in texts)


def _length(text: str) -> str:
    words = len(text.split())
    if len(text) > 20 * max(1, words):  # no spaces between words: count what there is
        return _n("%(n)s character", "%(n)s characters", len(text), n=Figure(len(text)))
    return _n("%(n)s word", "%(n)s words", words, n=Figure(words))


def buttons(asks: Reviewing, mode: str) -> list[Button]:
    """The choices from left to right."""
    if mode == "ranking":
        return [Button("ranked", "ranked", _("Save this order"), "", SAID["ranked"])]
    if asks.scale != "strength":
        parts = {
            "a": ("A", _("is better")),
            "b": ("B", _("is better")),
            "tie": (SAID["tie"], ""),
            "both_bad": (SAID["both_bad"], ""),
        }
        return [Button(value, value, *parts[value], SAID[value]) for value in asks.pair_choices]  # type: ignore[index]
    left = [Button(f"a:{n}", f"a{n}", "A", STRENGTH_NAMES[n], said("a", n)) for n in (3, 2, 1)]
    right = [Button(f"b:{n}", f"b{n}", "B", STRENGTH_NAMES[n], said("b", n)) for n in (1, 2, 3)]
    both = [Button(name, name, SAID[name], "", SAID[name]) for name in BOTH]
    return [*left, *both, *right]


def said(choice: Choice, strength: int | None) -> str:
    """A choice in words: 'A is better', 'B is much better', 'Tie'."""
    if strength is None or choice not in ("a", "b"):
        return SAID[choice]
    return STRENGTHS[choice][strength]


def order_in_words(ranking: list[list[int]]) -> str:
    """A ranking as 'C › A = B › D'."""
    return " › ".join(" = ".join(LETTERS[place] for place in tier) for tier in ranking)


def context(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    leased: Leased | None,
    *,
    ahead: bool = False,
) -> Mapping[str, Any]:
    """What the templates of the desk read.

    Args:
        ahead: the desk is kept in the browser until the pair in hand is judged.
    """
    asks = reviewing_of(project.reviewing)
    last = [] if ahead else queries.answers(db, project_id=project.id, reviewer_id=reviewer_id, limit=1)
    before = None
    if leased is not None and leased.previous is not None:
        before = queries.answer(db, reviewer_id=reviewer_id, assignment_id=leased.assignment_id)
    mode = leased.mode if leased else "pair"
    return {
        "project": project,
        "reviewer": reviewer_id,
        "asks": asks,
        "pair": leased,
        "shown": shown_answers(leased.answers) if leased else [],
        "folded": is_long(leased.answers) if leased else False,
        "asked_at_length": is_long((leased.messages[-1]["content"],)) if leased else False,
        "buttons": buttons(asks, mode),
        "before": before,
        "min_seconds": queue_of(project.queue).min_seconds,
        "seconds_left": max(0, int((leased.expires_at - utcnow()).total_seconds())) if leased else 0,
        "key": new_id(),
        "last": last[0] if last and last[0].changeable else None,
        "progress": queries.progress(db, project=project, reviewer_id=reviewer_id),
        "why": None if leased else why_empty(db, project, reviewer_id),
        "flag_reasons": FLAG_REASONS,
        "skip_reasons": SKIP_REASONS,
        "likert": LIKERT,
        "in_words": said,
        "order_in_words": order_in_words,
    }
