"""What the services of this room take and give: plain values, none of which says which version wrote what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.language import _

Choice = Literal["a", "b", "tie", "both_bad", "ranked", "skip", "flag"]
"""As the reviewer sees it: 'a' is the answer on the left, 'b' the one on the right; 'ranked' comes with a ranking."""

Side = Literal["a", "b"]
"""The comparison's own first or second completion."""

Source = Literal["web", "api", "feedback"]

Mode = Literal["pair", "ranking"]

CHOICES: tuple[Choice, ...] = ("a", "b", "tie", "both_bad", "ranked", "skip", "flag")
COUNTED = frozenset({"a", "b", "tie", "both_bad", "ranked"})
"""Choices that fill a slot. A skip gives it back, a flag closes all of them."""

FLAG_REASONS = {
    "unsafe": _("Unsafe or harmful"),
    "personal_data": _("Personal data"),
    "broken": _("Broken or unreadable"),
}
"""Why a pair can be taken out of the queue, and how it is said."""

SKIP_REASONS = {
    "expertise": _("I do not know enough about this"),
    "unclear": _("The question is unclear"),
    "language": _("I do not read this language well"),
    "too_long": _("Too long to judge now"),
    "uneasy": _("I would rather not read this"),
}
"""Why somebody may pass a pair on, and how it is said. The API takes other words too."""

MAX_KEY_CHARS = 200
MAX_CORRECTED_CHARS = 50_000


def shown_of(choice: Choice) -> str:
    """The choice in terms of what was seen: 'left' and 'right' for 'a' and 'b'."""
    return {"a": "left", "b": "right"}.get(choice, choice)


_CHOICE_OF: dict[str, Choice] = {shown_of(choice): choice for choice in CHOICES}


def choice_of(shown_choice: str) -> Choice:
    """The inverse of :func:`shown_of`. Raises KeyError for 'undone', which is no choice."""
    return _CHOICE_OF[shown_choice]


def meant_of(choice: str, left_side: str) -> str:
    """The choice in terms of the comparison: which of its completions, given the one that stood on the left."""
    if choice == "a":
        return left_side
    if choice == "b":
        return "b" if left_side == "a" else "a"
    return choice


def meant_criteria(criteria: Mapping[str, Any], left_side: str) -> dict[str, Any]:
    """Criteria as seen, in terms of the comparison's own sides; and back again, for it is its own inverse."""
    if left_side == "a":
        return dict(criteria)
    other = {"a": "b", "b": "a"}
    return {
        key: {other[side]: points for side, points in said.items()}
        if isinstance(said, Mapping)
        else other.get(said, said)
        for key, said in criteria.items()
    }


def meant_ranking(ranking: Sequence[Sequence[int]], shown_order: Sequence[int]) -> list[list[int]]:
    """Tiers of places on the page as tiers of item positions, in each tier the lowest first."""
    return [sorted(shown_order[place] for place in tier) for tier in ranking]


def shown_ranking(ranking: Sequence[Sequence[int]], shown_order: Sequence[int]) -> list[list[int]]:
    """The inverse of :func:`meant_ranking`."""
    place_of = {position: place for place, position in enumerate(shown_order)}
    return [sorted(place_of[position] for position in tier) for tier in ranking]


@dataclass(frozen=True, slots=True)
class Leased:
    """A comparison in a reviewer's hands: exactly what may be shown, and nothing that tells who wrote what."""

    assignment_id: UUID
    comparison_id: UUID
    project_id: UUID
    messages: list[dict[str, Any]]
    """The conversation so far; it ends with a user's turn."""
    answers: tuple[str, ...]
    """In the order in which they are shown: left and right of a pair, or all that are to be ranked."""
    leased_at: datetime
    expires_at: datetime
    holds_slot: bool
    """False where a choice was taken back and others have filled the slots since: a new vote would be surplus."""
    previous: Choice | None = None
    """What this reviewer last said of it, as seen; null when nothing, or when it was taken back."""
    mode: Mode = "pair"

    @property
    def left(self) -> str:
        """The answer on the left of a pair."""
        return self.answers[0]

    @property
    def right(self) -> str:
        """The answer on the right of a pair."""
        return self.answers[1]


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a reviewer says of a comparison, as seen, before it is known what it changes."""

    choice: Choice
    strength: int | None = None
    comment: str | None = None
    reason: str | None = None
    seconds: float | None = None
    tags: tuple[str, ...] = ()
    criteria: Mapping[str, Any] = field(default_factory=dict)
    """Criterion → 'a', 'tie', 'b', or {'a': points, 'b': points}."""
    ranking: tuple[tuple[int, ...], ...] | None = None
    """Tiers of places on the page, the best first: 0 is the answer shown first."""
    corrected: str | None = None
    """The answer chosen (of a ranking: the one on top) as the reviewer would have it."""

    @property
    def best(self) -> int | None:
        """The place on the page of the one answer that is better than all others, if there is one."""
        if self.ranking:
            return self.ranking[0][0] if len(self.ranking[0]) == 1 else None
        return {"a": 0, "b": 1}.get(self.choice)


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """One stored revision of a reviewer's vote, as the reviewer saw it."""

    id: UUID
    assignment_id: UUID
    comparison_id: UUID
    revision: int
    choice: Choice
    strength: int | None
    comment: str | None
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a submitted vote."""

    vote: VoteRecord
    counted: bool
    """It fills one of the slots that the comparison asks for."""
    surplus: bool
    """It came after its lease had run out and every slot was filled: kept, but counted nowhere."""
    replayed: bool
    """The same submission had been stored before; this is the answer it was given."""
