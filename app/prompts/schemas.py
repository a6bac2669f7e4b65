"""The shape of prompts in the API."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SkipValidation

MAX_BATCH = 1000
Source = Literal["api", "file", "form", "chat", "demo", "playground"]
MESSAGES_EXAMPLE: list[JsonValue] = [
    {"role": "system", "content": "You answer customers of a bakery."},
    {"role": "user", "content": "Do you have gluten-free bread?"},
]


class PromptIn(BaseModel):
    """One prompt: a plain text, or a conversation that ends with a user's turn. Give one of the two."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(default=None, description="A single user's turn.", examples=["How do I boil an egg?"])
    messages: list[Any] | None = Field(
        default=None,
        description="Turns with `role` (system, user or assistant; `developer` is `system`) and `content`: a text, or "
        "parts of type `text`.",
        examples=[MESSAGES_EXAMPLE],
    )


class PromptsIn(BaseModel):
    """Prompts to add, 1 to 1000 at once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"prompts": [{"prompt": "How do I boil an egg?"}, {"messages": MESSAGES_EXAMPLE}]}]
        },
    )

    # Each is checked on its own, so that a bad one has its result and the others theirs.
    prompts: list[SkipValidation[PromptIn]] = Field(min_length=1, max_length=MAX_BATCH)
    all_or_nothing: bool = Field(
        default=False, description="Refuse the whole batch if one prompt is bad; otherwise the good ones are kept."
    )


class PromptOut(BaseModel):
    """A prompt."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    messages: list[dict[str, str]] = Field(examples=[MESSAGES_EXAMPLE])
    held_out: bool = Field(description="Its votes evaluate and never train.")
    source: Source = Field(description="Where it came from.")
    problem: str | None = Field(description="Why the current version cannot answer it; null if it can.")
    sampled_count: int = Field(description="How often completions were sampled for it.")
    created_at: datetime
    archived_at: datetime | None


class Result(BaseModel):
    """What became of one prompt of the batch."""

    index: int = Field(description="Its place in the batch, from 0.")
    status: Literal["created", "existing", "refused", "dropped"] = Field(
        description="`existing`: the project had an equal one. `dropped`: good, but another one was bad and "
        "`all_or_nothing` was asked for."
    )
    id: UUID | None = None
    held_out: bool | None = None
    archived: bool | None = Field(
        default=None, description="True: an admin put it aside, so no pairs are made of it until it is unarchived."
    )
    error: str | None = Field(default=None, description="Why it was refused, and what to do.")


class PromptsOut(BaseModel):
    """What became of a batch, in its order."""

    created: int
    existing: int
    refused: int
    results: list[Result]


class PromptPage(BaseModel):
    """Some prompts, newest first."""

    items: list[PromptOut]
    next_cursor: UUID | None = Field(description="Give it as `cursor` to go on; null at the end.")
