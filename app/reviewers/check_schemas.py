"""What the API takes and gives about pairs with a known answer."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CheckMessage(BaseModel):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class CheckIn(BaseModel):
    """A pair whose better answer is known."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "gold",
                    "prompt": "Where is my parcel?",
                    "better": "Let me look that up: could you give me its number?",
                    "worse": "I do not know.",
                }
            ]
        },
    )

    kind: Literal["gold", "attention"] = "gold"
    prompt: str | None = Field(default=None, description="A text, or…")
    messages: list[CheckMessage] | None = Field(default=None, description="…a conversation that ends with the user.")
    better: str
    worse: str
    note: str = Field(default="", max_length=1000, description="Why, for other admins.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "CheckIn":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self


class CheckOut(BaseModel):
    """A pair with a known answer, and what reviewers made of it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    origin: str = Field(description="`admin`, `unanimous` or `made`.")
    note: str
    messages: list[CheckMessage]
    better: str
    worse: str
    judged: int
    right: int
    flagged: int
    retired: bool
    doubtful: bool = Field(description="Most who judged it see it the other way.")


class ChecksPage(BaseModel):
    """Some of them, newest first."""

    items: list[CheckOut]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")
    next_offset: int | None = Field(description="The same as a number, for `offset`; null after a cursor, too.")


class PromoteIn(BaseModel):
    """Which unanimous pairs become gold."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"fewest_votes": 3, "most": 50}]})

    fewest_votes: int = Field(default=3, ge=2, le=50, description="Reviewers who agreed, without exception.")
    most: int = Field(default=50, ge=1, le=1000)


class AttentionIn(BaseModel):
    """How many attention pairs to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"count": 20}]})

    count: int = Field(ge=1, le=200)


class MadeOut(BaseModel):
    """How many were made."""

    made: int
