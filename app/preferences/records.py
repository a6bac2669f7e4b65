"""What this room reads and makes of votes: as they were spoken, and as preferences that training reads."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

Split = Literal["train", "eval"]
Kind = Literal["pair", "ranking"]
Tiers = tuple[tuple[UUID, ...], ...]

REASONS = (
    *("skip", "flag", "undone", "surplus", "set_aside", "feedback"),
    *("flagged", "identical", "other_prompt", "empty", "window", "replay"),
    *("no_criterion", "tie", "both_bad", "undecided"),
)
"""Why a vote is left out. What it says of itself: skip, flag, undone. What became of it: surplus (its place was lost),
set_aside (its reviewer is in quarantine), feedback (of an API client, and the project ignores those or its person is in
quarantine or not past the qualification round). What it is about: flagged pairs, answers that read the same, that
answer differently tokenised prompts, or that have no tokens. When it was given: before the project's window; or the
model has learned from it, and it was not drawn again (replay). What the project's aggregation leaves out: votes without
the criterion that is trained on, ties, both bad, undecided pairs."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote that may count, in terms of completions."""

    vote_id: UUID
    assignment_id: UUID
    reviewer_id: UUID
    comparison_id: UUID
    prompt_id: UUID
    split: Split
    choice: str
    """'a', 'b', 'tie', 'both_bad', or 'ranked'."""
    items: tuple[UUID, ...]
    """The completions by position: a and b, or all of a ranking."""
    at: datetime
    strength: int | None = None
    criteria: Mapping[str, Any] = field(default_factory=dict)
    """Criterion → 'a', 'b', 'tie', or {"a": 1 … 5, "b": 1 … 5}."""
    ranking: Sequence[Sequence[int]] | None = None
    """Tiers of positions, the best first."""
    correction_id: UUID | None = None
    """The completion that the reviewer made of the answer they preferred."""
    frozen: bool = False
    """A round has read it: it cannot change any more."""

    @property
    def corrected_item(self) -> UUID | None:
        """The completion that was corrected: the preferred one, or the first of the ranking's best."""
        if self.correction_id is None:
            return None
        if self.choice == "ranked" and self.ranking:
            return self.items[self.ranking[0][0]]
        return {"a": self.items[0], "b": self.items[1]}.get(self.choice)


@dataclass(frozen=True, slots=True)
class Settled:
    """What was decided about a pair: it speaks in the place of the pair's votes."""

    id: UUID
    outcome: str
    """'a', 'b', 'tie' or 'both_bad'."""
    strength: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Preference:
    """What training reads of one or more votes."""

    kind: Kind
    prompt_id: UUID
    comparison_id: UUID
    completion_a_id: UUID
    """Of a ranking the first of its best."""
    split: Split
    """'eval' on held-out prompts, else 'train'."""
    weight: float
    vote_ids: tuple[UUID, ...]
    reviewer_ids: tuple[UUID, ...]
    voted_at: datetime
    """Of the latest vote."""
    completion_b_id: UUID | None = None
    outcome: str | None = None
    """Of a pair: 'a', 'b', 'tie' or 'both_bad'."""
    margin: float = 0.0
    tiers: Tiers | None = None
    """Of a ranking: the best first."""
    correction: bool = False
    """One side is a reviewer's edit."""
    adjudication_id: UUID | None = None
    """The decision about its pair, where there is one."""

    @property
    def vote_id(self) -> UUID:
        """The first of its votes: its name in the trainer's files."""
        return self.vote_ids[0]

    @property
    def reviewer_id(self) -> UUID:
        """Who gave that vote."""
        return self.reviewer_ids[0]

    @property
    def completions(self) -> tuple[UUID, ...]:
        """All it is about."""
        if self.tiers is not None:
            return tuple(item for tier in self.tiers for item in tier)
        return tuple(item for item in (self.completion_a_id, self.completion_b_id) if item is not None)


@dataclass(frozen=True, slots=True)
class Collected:
    """What can be learned from a project's votes at a moment."""

    preferences: list[Preference]
    """Ordered by prompt, comparison and vote: the same votes always come in the same order."""
    left_out: dict[str, int]
    """Votes by the reason for which they are left out."""
    contradictions: int
    """Comparisons on which one reviewer preferred 'a' and another 'b', and that nobody has settled."""
    read: list[UUID]
    """Assignments whose votes were looked at, whatever window, replay and aggregation made of them."""

    def counts(self) -> dict[str, Any]:
        """What a round shows of its snapshot."""
        outcomes = Counter(item.outcome for item in self.preferences)
        splits = Counter(item.split for item in self.preferences)
        kinds = Counter(item.kind for item in self.preferences)
        return {
            "train": splits["train"],
            "eval": splits["eval"],
            "ties": outcomes["tie"],
            "both_bad": outcomes["both_bad"],
            "rankings": kinds["ranking"],
            "corrections": sum(item.correction for item in self.preferences),
            "prompts": len({item.prompt_id for item in self.preferences}),
            "reviewers": len({who for item in self.preferences for who in item.reviewer_ids}),
            "contradictions": self.contradictions,
            "settled": sum(item.adjudication_id is not None and not item.correction for item in self.preferences),
            "left_out": dict(sorted(self.left_out.items())),
        }


def implied(preference: Preference) -> Iterator[Preference]:
    """The preference itself, or every two answers that a ranking sets one above the other, and ties within a tier."""
    if preference.tiers is None:
        yield preference
        return
    placed = [(number, item) for number, tier in enumerate(preference.tiers) for item in tier]
    for place, (above, winner) in enumerate(placed):
        for below, loser in placed[place + 1 :]:
            yield replace(
                preference,
                kind="pair",
                completion_a_id=winner,
                completion_b_id=loser,
                outcome="a" if above < below else "tie",
                tiers=None,
            )
