"""The part of OpenAI's chat protocol that the door understands; anything else is refused by name.

What clients often send although it changes nothing here is taken: ``user``, ``metadata``, and whatever says what would
hold without it (null, no tools, penalties of 0 …).
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_ANSWERS = 16
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_calls": ([],),
    "annotations": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "repetition_penalty": (1,),
    "top_logprobs": (0,),
}
"""Values that say what would hold without them."""


def _without_neutral(body: Any) -> Any:
    """``body`` without what is null or neutral: clients send their own defaults, and the turns that they were given."""
    if not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if value is not None and value not in _NEUTRAL.get(name, ())}


class TextPart(BaseModel):
    """A part of a turn; only texts are understood."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"] = Field(description="`developer` is `system`.")
    content: str | list[TextPart] = Field(description="A text, or parts of type `text`.")
    name: str | None = Field(default=None, description="Taken and not read.")

    @model_validator(mode="before")
    @classmethod
    def _says_something(cls, body: Any) -> Any:
        return _without_neutral(body)

    def plain(self) -> dict[str, str]:
        """As prompts hold it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(BaseModel):
    """What a stream says beside the answers."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    """The shape of an answer: text."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]


class ChatRequest(BaseModel):
    """A conversation to be continued."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "demo",
                    "messages": [{"role": "user", "content": "How do I keep basil alive indoors?"}],
                    "n": 1,
                    "temperature": 0.7,
                }
            ]
        },
    )

    model: str = Field(description="`project` for its current version; admins also `project@3`.", examples=["demo"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    n: int = Field(default=1, ge=1, le=MAX_ANSWERS, description="Answers to sample.")
    stream: bool = Field(default=False, description="Send the answers as they are written, as server-sent events.")
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, description="Default: the project's.")
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="Default: the project's. 0 leaves the likeliest token alone."
    )
    top_k: int | None = Field(default=None, ge=0, le=100_000, description="Default: the project's; 0 keeps all.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Default: the project's; 0 keeps all.")
    max_tokens: int | None = Field(default=None, ge=1, le=32_768, description="Default: the project's.")
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=32_768, description="Another name of `max_tokens`."
    )
    stop: list[str] | str | None = Field(default=None, description="Texts that end an answer, up to 8.")
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="The same seed gives the same answer; its sign is not read."
    )
    store: bool | None = Field(
        default=None, description="False: nothing of this chat is kept, whatever the token allows."
    )
    user: str | None = Field(default=None, description="Taken and not read.")
    safety_identifier: str | None = Field(default=None, description="Taken and not read.")
    metadata: dict[str, Any] | None = Field(default=None, description="Taken and not read.")
    service_tier: Literal["auto", "default"] | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: float | None = Field(default=None, ge=0, le=0, description="Only 0.")
    presence_penalty: float | None = Field(default=None, ge=0, le=0, description="Only 0.")
    logprobs: Literal[False] | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: list[str] | str | None) -> list[str] | str | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 8 or not all(0 < len(text) <= 100 for text in stops):
            raise ValueError("up to 8 texts of 1 to 100 characters")
        if any("\x00" in text or any("\ud800" <= character <= "\udfff" for character in text) for text in stops):
            raise ValueError("no text may hold a null character or half a character (a lone surrogate)")
        return stop

    @model_validator(mode="before")
    @classmethod
    def _says_something(cls, body: Any) -> Any:
        return _without_neutral(body)

    @model_validator(mode="after")
    def _belongs_together(self) -> "ChatRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options need stream: true")
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(f"max_tokens is {both[0]} and max_completion_tokens {both[1]}; give one of them")
        return self

    @property
    def longest(self) -> int | None:
        """The longest answer that was asked for, tokens."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens


class AnswerMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Kept(BaseModel):
    """What became of the chat in the project. OpenAI's API has no such field; its clients pass it through."""

    kept: Literal["nothing", "prompt", "answers"] = Field(
        description="`answers`: they can be rated with `POST /v1/feedback`."
    )
    why: str | None = Field(default=None, description="Why less is kept than the token allows.")
    prompt_id: str | None = None
    comparison_id: str | None = Field(default=None, description="The pair that reviewers are shown.")


class ChatCompletion(BaseModel):
    """The answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time, seconds.")
    model: str = Field(description="The version that answered, as `project@number`.")
    choices: list[Choice]
    usage: Usage
    hone: Kept


class Model(BaseModel):
    """Something that answers."""

    id: str = Field(description="What `model` may be.", examples=["demo"])
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time, seconds.")
    owned_by: str = "hone"


class ModelList(BaseModel):
    """Everything that answers you."""

    object: Literal["list"] = "list"
    data: list[Model]


class AnswerRef(BaseModel):
    """An answer that a key of yours was given."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100, description="The `id` of the chat completion.", examples=["chatcmpl-019a…"])
    index: int = Field(default=0, ge=0, lt=MAX_ANSWERS, description="Which of its `choices`.")


class FeedbackIn(BaseModel):
    """Which of two answers is better (`a`, `b`, `choice`), or a thumb for one (`answer`, `thumb`)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "a": {"id": "chatcmpl-019ab4c87c1e7d3a9a550c8d2f3b6e11", "index": 0},
                    "b": {"id": "chatcmpl-019ab4c87c1e7d3a9a550c8d2f3b6e11", "index": 1},
                    "choice": "b",
                },
                {"answer": {"id": "chatcmpl-019ab4c87c1e7d3a9a550c8d2f3b6e11"}, "thumb": "up"},
            ]
        },
    )

    a: AnswerRef | None = None
    b: AnswerRef | None = Field(default=None, description="An answer to the same conversation.")
    choice: Literal["a", "b", "tie", "both_bad"] | None = Field(default=None, description="The better one.")
    strength: int | None = Field(
        default=None,
        ge=1,
        le=3,
        description="With `a` or `b`, where the project's scale is `strength`: 1 slightly, 2 clearly, 3 much better.",
    )
    answer: AnswerRef | None = None
    thumb: Literal["up", "down", "none"] | None = Field(default=None, description="`none` takes it back.")
    comment: str | None = Field(default=None, max_length=4000, description="Why, in the person's own words.")

    @model_validator(mode="after")
    def _is_one_of_two_kinds(self) -> "FeedbackIn":
        pair = [self.a, self.b, self.choice]
        single = [self.answer, self.thumb]
        if None not in pair and single == [None, None]:
            return self
        if None not in single and [*pair, self.strength] == [None] * 4:
            return self
        raise ValueError("give either `a`, `b` and `choice`, or `answer` and `thumb`")

    @property
    def named(self) -> list[AnswerRef]:
        """The answers it speaks of."""
        return [ref for ref in (self.a, self.b, self.answer) if ref is not None]


class FeedbackOut(BaseModel):
    """What was stored."""

    id: UUID
    object: Literal["feedback"] = "feedback"
    kind: Literal["preference", "label"]
    choice: Literal["a", "b", "tie", "both_bad"] | None = None
    thumb: Literal["up", "down", "none"] | None = None
    revision: int = Field(description="1 for the first word on this, then one more for every change.")
    used_for: Literal["training", "evaluation", "nothing"] = Field(
        description="`evaluation`: the conversation is held out. `nothing`: the project ignores feedback, it was taken "
        "back, or you are paused or have not qualified as a reviewer."
    )
    counted: bool = Field(description="It fills a place among the votes that a pair asks for: a project's setting.")
    created_at: datetime
    replayed: bool = Field(default=False, exclude=True)
