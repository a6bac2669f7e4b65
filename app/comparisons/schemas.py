"""What the API takes and gives. Nothing here says which version wrote what."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.comparisons.queries import Answer
from app.comparisons.records import COUNTED, MAX_COMMENT_CHARS, Choice, Leased, Recorded

AS_SHOWN = "As shown to you: `a` is the answer on the left, `b` the one on the right."


class Message(BaseModel):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ComparisonOut(BaseModel):
    """A pair in your hands: a conversation, and two answers to its last turn."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab4c8-7c1e-7d3a-9a55-0c8d2f3b6e11",
                    "messages": [{"role": "user", "content": "How do I keep basil alive in winter?"}],
                    "a": "Give it light: a south window, or a lamp for twelve hours a day.",
                    "b": "Basil is a plant that many people like to grow.",
                    "lease_expires_at": "2026-11-23T18:15:00Z",
                    "previous_choice": None,
                }
            ]
        }
    )

    id: UUID = Field(description="Vote with `POST /api/v1/comparisons/{id}/votes`.")
    messages: list[Message] = Field(description="The conversation so far; it ends with a user's turn.")
    a: str = Field(
        description="The answer on the left, as plain text (mostly Markdown). Hostile until you sanitise it."
    )
    b: str = Field(description="The answer on the right.")
    lease_expires_at: datetime = Field(
        description="Until then the pair is yours alone. A later vote counts if nobody else has filled its place."
    )
    previous_choice: Choice | None = Field(default=None, description="What you last said of it, if anything stands.")

    @classmethod
    def of(cls, leased: Leased) -> "ComparisonOut":
        """What may be told of a lease."""
        return cls(
            id=leased.comparison_id,
            messages=[Message.model_validate(message) for message in leased.messages],
            a=leased.left,
            b=leased.right,
            lease_expires_at=leased.expires_at,
            previous_choice=leased.previous,
        )


class VoteIn(BaseModel):
    """What you say of a pair."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"choice": "a", "seconds": 12.4}, {"choice": "flag", "reason": "unsafe"}]},
    )

    choice: Choice = Field(
        description=f"{AS_SHOWN} `skip` gives the pair back, `flag` takes it out of the queue and needs a `reason`."
    )
    strength: int | None = Field(
        default=None, ge=1, le=3, description="With `a` or `b`: 1 slightly, 2 clearly, 3 much better."
    )
    comment: str | None = Field(default=None, max_length=MAX_COMMENT_CHARS, description="Why, in your own words.")
    reason: str | None = Field(
        default=None, max_length=200, description="For a flag: `unsafe`, `personal_data` or `broken`."
    )
    seconds: float | None = Field(default=None, ge=0, description="From showing to choosing, seconds.")


class VoteOut(BaseModel):
    """What was stored. A repetition with the same `Idempotency-Key` is answered with the very same."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab4c9-02aa-7e01-8a1b-5f7d1c2e9b40",
                    "comparison_id": "019ab4c8-7c1e-7d3a-9a55-0c8d2f3b6e11",
                    "choice": "a",
                    "counted": True,
                    "surplus": False,
                    "revision": 1,
                    "created_at": "2026-11-23T18:01:12Z",
                }
            ]
        }
    )

    id: UUID
    comparison_id: UUID
    choice: Choice = Field(description=AS_SHOWN)
    counted: bool = Field(description="It fills one of the places that the comparison asks for.")
    surplus: bool = Field(description="It came when every place was filled: kept, but it counts nowhere.")
    revision: int = Field(description="1 for the first vote on this pair, then one more for every change.")
    created_at: datetime

    @classmethod
    def of(cls, recorded: Recorded) -> "VoteOut":
        """The answer to a submission."""
        vote = recorded.vote
        return cls(
            id=vote.id,
            comparison_id=vote.comparison_id,
            choice=vote.choice,
            counted=recorded.counted,
            surplus=recorded.surplus,
            revision=vote.revision,
            created_at=vote.created_at,
        )


class MyVoteOut(VoteOut):
    """One of your own choices, with what you saw."""

    model_config = ConfigDict(json_schema_extra={"examples": []})

    comment: str | None
    reason: str | None
    strength: int | None
    changeable: bool = Field(description="No round has learned from it yet: it can be changed or taken back.")
    messages: list[Message]
    a: str
    b: str

    @classmethod
    def from_answer(cls, answer: Answer) -> "MyVoteOut":
        """A line of the reviewer's history."""
        return cls(
            id=answer.vote_id,
            comparison_id=answer.comparison_id,
            choice=answer.choice,
            counted=answer.choice in COUNTED and not answer.surplus,
            surplus=answer.surplus,
            revision=answer.revision,
            created_at=answer.created_at,
            comment=answer.comment,
            reason=answer.reason,
            strength=answer.strength,
            changeable=answer.changeable,
            messages=[Message.model_validate(message) for message in answer.messages],
            a=answer.left,
            b=answer.right,
        )


class MyVotesPage(BaseModel):
    """A page of your choices, newest first."""

    items: list[MyVoteOut]
    next_cursor: UUID | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
