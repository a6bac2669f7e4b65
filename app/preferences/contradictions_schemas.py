"""What the API tells of contradictions, and takes to settle them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.preferences.adjudication import MAX_NOTE_CHARS, Decision, Outcome
from app.preferences.contradictions import Disputed

_SIDES = "In your sides: `a` and `b` are in an order of your own, which may be another than that of others."
_SWAPPED = "They saw the answers the other way round: a text of theirs that says A means your `b`."


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ContradictionOut(_Read):
    """A pair on which reviewers contradict each other, and that nobody has settled."""

    comparison_id: UUID
    messages: list[dict[str, Any]]
    a: str
    b: str
    votes_a: int
    votes_b: int
    neither: int = Field(description="Tie or both bad.")
    at: datetime = Field(description="When the last of these votes was given.")
    held_out: bool


class ContradictionsPage(BaseModel):
    """Some of them, the most contested first."""

    items: list[ContradictionOut]
    waiting: int = Field(description="All that wait and were asked for.")
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")
    next_offset: int | None = Field(description="The same as a number, for `offset`; null after a cursor, too.")


class DecisionOut(_Read):
    """What somebody decided about a pair."""

    id: UUID
    comparison_id: UUID
    choice: Outcome = Field(description="`leave`: the votes speak as they did.")
    strength: int | None
    note: str
    swapped: bool = Field(description=_SWAPPED)
    saw_votes: bool = Field(description="What reviewers had said was known to whoever decided.")
    decided_by: UUID
    who: str
    at: datetime
    withdrawn_at: datetime | None
    withdrawn_who: str | None
    read: bool = Field(description="A round has read it; its snapshot keeps it, withdrawn or not.")


class WordOut(_Read):
    """What a reviewer said, in your sides."""

    reviewer_id: UUID
    who: str
    choice: str
    strength: int | None
    criteria: dict[str, Any]
    tags: list[str]
    comment: str | None
    reason: str | None
    corrected: str | None
    at: datetime
    left_out: str | None = Field(description="Why no round reads it; null where one would.")
    swapped: bool = Field(description=_SWAPPED)


class DisputedOut(BaseModel):
    """A pair with everything that was said and decided about it."""

    comparison_id: UUID
    messages: list[dict[str, Any]]
    a: str = Field(description=_SIDES)
    b: str
    held_out: bool
    contested: bool = Field(description="Reviewers contradict each other: in the choice, or in a criterion.")
    words: list[WordOut]
    decisions: list[DecisionOut] = Field(description="The newest first; at most that one stands.")

    @classmethod
    def of(cls, pair: Disputed, decisions: list[Decision]) -> "DisputedOut":
        """All of it."""
        return cls(
            comparison_id=pair.comparison_id,
            messages=pair.messages,
            a=pair.answers[0],
            b=pair.answers[1],
            held_out=pair.held_out,
            contested=pair.contested,
            words=[WordOut.model_validate(word) for word in pair.words],
            decisions=[DecisionOut.model_validate(item) for item in decisions],
        )


class DecisionIn(BaseModel):
    """A decision, in the sides in which the pair is told to you."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"choice": "a", "strength": 2, "note": "B invents a source."}]}
    )

    choice: Outcome = Field(description="`leave` takes the pair off the list and lets its votes speak.")
    strength: int | None = Field(default=None, ge=1, le=3, description="With `a` and `b`: slightly, clearly, much.")
    note: str = Field(default="", max_length=MAX_NOTE_CHARS)
    saw_votes: bool = Field(
        default=True, description="Whether whoever decided knew what reviewers had said; `false` for a blind decision."
    )


class DecidedOut(BaseModel):
    """The decision that stands now."""

    id: UUID


class PastOut(BaseModel):
    """A decision with its pair, in the sides of whoever decided."""

    decision: DecisionOut
    messages: list[dict[str, Any]]
    a: str
    b: str


class DecisionsPage(BaseModel):
    """Decisions, withdrawn ones too, the newest first."""

    items: list[PastOut]
    next_cursor: UUID | None = Field(description="Give it as `cursor` to go on; null at the end.")
