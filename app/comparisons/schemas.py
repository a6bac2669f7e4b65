"""What the API takes and gives. Nothing here says which version wrote what."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.comparisons.queries import Answer
from app.comparisons.records import COUNTED, MAX_CORRECTED_CHARS, Choice, Leased, Mode, Recorded
from app.projects.reviewing import MAX_ANSWERS, MAX_COMMENT_CHARS, MAX_TAGS, Reviewing

Tier = Annotated[list[Annotated[int, Field(ge=0, lt=MAX_ANSWERS)]], Field(min_length=1, max_length=MAX_ANSWERS)]
Rating = Literal["a", "tie", "b"] | dict[Literal["a", "b"], Annotated[int, Field(ge=1, le=5)]]
AS_SHOWN = "As shown to you: `a` is the answer on the left, `b` the one on the right."


class Message(BaseModel):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ComparisonOut(BaseModel):
    """A comparison in your hands: a conversation, and two answers to its last turn, or several to be ranked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab4c8-7c1e-7d3a-9a55-0c8d2f3b6e11",
                    "messages": [{"role": "user", "content": "How do I keep basil alive in winter?"}],
                    "mode": "pair",
                    "answers": [
                        "Give it light: a south window, or a lamp for twelve hours a day.",
                        "Basil is a plant that many people like to grow.",
                    ],
                    "a": "Give it light: a south window, or a lamp for twelve hours a day.",
                    "b": "Basil is a plant that many people like to grow.",
                    "asks": {
                        "scale": "ab_tie_bad",
                        "criteria": [{"key": "helpful", "label": "Helpful", "scale": "preference"}],
                        "comment": "optional",
                    },
                    "lease_expires_at": "2026-11-23T18:15:00Z",
                    "previous_choice": None,
                }
            ]
        }
    )

    id: UUID = Field(description="Vote with `POST /api/v1/comparisons/{id}/votes`.")
    messages: list[Message] = Field(description="The conversation so far; it ends with a user's turn.")
    mode: Mode = Field(description="`pair`: choose between `a` and `b`; `ranking`: put all `answers` in order.")
    answers: list[str] = Field(
        description="The answers in the order in which they are shown to you, as plain text (mostly Markdown). Hostile "
        "until you sanitise them."
    )
    a: str = Field(description="The first of the answers: of a pair, the one on the left.")
    b: str = Field(description="The second: of a pair, the one on the right.")
    asks: Reviewing = Field(description="What the project wants to know, as its settings have it.")
    lease_expires_at: datetime = Field(
        description="Until then the pair is yours alone. A later vote counts if nobody else has filled its place."
    )
    previous_choice: Choice | None = Field(default=None, description="What you last said of it, if anything stands.")

    @classmethod
    def of(cls, leased: Leased, asks: Reviewing) -> "ComparisonOut":
        """What may be told of a lease."""
        return cls(
            id=leased.comparison_id,
            messages=[Message.model_validate(message) for message in leased.messages],
            mode=leased.mode,
            answers=list(leased.answers),
            asks=asks,
            a=leased.left,
            b=leased.right,
            lease_expires_at=leased.expires_at,
            previous_choice=leased.previous,
        )


class VoteIn(BaseModel):
    """What you say of a pair."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"choice": "a", "seconds": 12.4},
                {
                    "choice": "b",
                    "strength": 2,
                    "criteria": {"helpful": "b", "honest": "tie", "clear": {"a": 2, "b": 4}},
                    "tags": ["Answers the question"],
                    "comment": "The right one says how much water.",
                    "corrected": "Water it from below, twice a week.",
                },
                {"choice": "ranked", "ranking": [[2], [0, 1], [3]]},
                {"choice": "skip", "reason": "expertise"},
                {"choice": "flag", "reason": "unsafe"},
            ]
        },
    )

    choice: Choice = Field(
        description=f"{AS_SHOWN} `ranked` goes with a `ranking`. `skip` gives the comparison back, `flag` takes it out "
        "of the queue and needs a `reason`."
    )
    strength: int | None = Field(
        default=None, ge=1, le=3, description="With `a` or `b`: 1 slightly, 2 clearly, 3 much better."
    )
    criteria: dict[str, Rating] = Field(
        default_factory=dict,
        description="Criterion → `a`, `tie` or `b`, or on a Likert scale the points (1 to 5) of each answer.",
    )
    ranking: list[Tier] | None = Field(
        default=None,
        max_length=MAX_ANSWERS,
        description="Tiers of indices into `answers`, the best first; those of one tier are equally good.",
    )
    tags: list[str] = Field(
        default_factory=list, max_length=MAX_TAGS, description="Reasons, of those that the project lists."
    )
    corrected: str | None = Field(
        default=None,
        max_length=MAX_CORRECTED_CHARS,
        description="The answer you chose (of a ranking: the one on top) as you would have it. It becomes a preference "
        "of its own: corrected over chosen over rejected.",
    )
    comment: str | None = Field(default=None, max_length=MAX_COMMENT_CHARS, description="Why, in your own words.")
    reason: str | None = Field(
        default=None,
        max_length=200,
        description="For a flag: `unsafe`, `personal_data` or `broken`. For a skip: `expertise`, `unclear`, "
        "`language`, `too_long`, `uneasy`, or words of your own.",
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
    criteria: dict[str, Any]
    ranking: list[list[int]] | None
    tags: list[str]
    corrected: str | None
    changeable: bool = Field(description="No round has learned from it yet: it can be changed or taken back.")
    messages: list[Message]
    mode: Mode
    answers: list[str]
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
            criteria=answer.criteria,
            ranking=answer.ranking,
            tags=answer.tags,
            corrected=answer.corrected,
            mode=answer.mode,
            answers=list(answer.shown),
            changeable=answer.changeable,
            messages=[Message.model_validate(message) for message in answer.messages],
            a=answer.left,
            b=answer.right,
        )


class MyVotesPage(BaseModel):
    """A page of your choices, newest first."""

    items: list[MyVoteOut]
    next_cursor: UUID | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class KeptOut(BaseModel):
    """A lease that was kept."""

    lease_expires_at: datetime = Field(description="The pair is yours until then.")


class ProgressOut(BaseModel):
    """Where you stand today."""

    mine_today: int = Field(description="Pairs you judged since midnight UTC.")
    mine_total: int = Field(description="Pairs you judged in all.")
    goal: int | None = Field(description="Pairs to be judged today; null: no goal.")
    goal_reached: bool
    ready: int | None = Field(description="Pairs that wait for you; null where the project does not tell.")
    ready_or_more: bool = Field(description="There are more than `ready`: counting stops at a hundred open votes.")
