"""The part of OpenAI's chat protocol that the door understands; anything else is refused by name."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=100_000)


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
    messages: list[Message] = Field(min_length=1, max_length=200)
    n: int = Field(default=1, ge=1, le=16, description="Answers to sample.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Default: the project's.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Default: the project's.")
    max_tokens: int | None = Field(default=None, ge=1, le=32_768, description="Default: the project's.")
    stop: list[str] | str | None = Field(default=None, description="Texts that end an answer.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="The same seed gives the same answer.")


class Choice(BaseModel):
    """One answer."""

    index: int
    message: Message
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """The answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time, seconds.")
    model: str = Field(description="The version that answered, as `project@number`.")
    choices: list[Choice]
    usage: Usage
