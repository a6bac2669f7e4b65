"""What may be asked of the engine: the requests of OpenAI's API with vLLM's extensions. Anything else is refused."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from worker.engine.errors import EngineError, context_length_exceeded
from worker.engine.params import SamplingParams

_GREEDY_BELOW = 1e-5
_INT64 = 2**63
_MOST_LOGPROBS = 20
_MOST_STOPS = 16
_DEFAULT_COMPLETION_TOKENS = 16

Count = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0)]
Logprobs = Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn of a conversation."""

    role: Annotated[str, Field(min_length=1)]
    content: str | list[TextPart]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As chat templates read it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": content} | ({"name": self.name} if self.name is not None else {})


class StreamOptions(_Body):
    """What a stream says beside its text."""

    include_usage: bool = False


class SamplingFields(_Body):
    """What chat and plain completions have in common."""

    model: Annotated[str, Field(min_length=1)]
    n: Count = 1
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    top_k: Annotated[int, Field(ge=-1)] | None = 0
    min_p: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    max_tokens: Count | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    prompt_logprobs: Logprobs | None = None
    return_token_ids: bool | None = False
    user: str | None = None
    presence_penalty: float | None = 0
    frequency_penalty: float | None = 0
    repetition_penalty: float | None = 1

    @field_validator("presence_penalty", "frequency_penalty", "repetition_penalty")
    @classmethod
    def _only_neutral(cls, value: float | None, info: ValidationInfo) -> float | None:
        neutral = 1 if info.field_name == "repetition_penalty" else 0
        if value is not None and value != neutral:
            raise ValueError(f"penalties are not supported; leave it out or send {neutral}")
        return value

    @field_validator("stop")
    @classmethod
    def _stop_strings(cls, value: str | list[str] | None) -> list[str]:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > _MOST_STOPS or not all(stops):
            raise ValueError(f"at most {_MOST_STOPS} stop strings, none of them empty")
        return stops

    @model_validator(mode="after")
    def _stream_only(self) -> "SamplingFields":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options belong to stream = true")
        if self.stream and self.prompt_logprobs is not None:
            raise ValueError("prompt_logprobs are not streamed; send stream = false")
        return self

    def sampling(
        self, prompt_tokens: int, max_tokens: int | None, context: int, logprobs: int | None
    ) -> SamplingParams:
        """The settings for a prompt of ``prompt_tokens``, all defaults filled in.

        Raises:
            EngineError: prompt and completion do not fit the context.
        """
        room = context - prompt_tokens
        if room < 1 or (max_tokens is not None and max_tokens > room):
            raise context_length_exceeded(prompt_tokens, max_tokens or 1, context)
        temperature = 1.0 if self.temperature is None else self.temperature
        return SamplingParams(
            seed=secrets.randbits(63) if self.seed is None else self.seed,
            n=self.n,
            temperature=0.0 if temperature < _GREEDY_BELOW else temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            max_tokens=room if max_tokens is None else max_tokens,
            stop=tuple(self.stop or ()),
            include_stop=self.include_stop_str_in_output,
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            prompt_logprobs=self.prompt_logprobs,
        )


class Conversation(_Body):
    """Messages and how they become a prompt."""

    messages: Annotated[list[Message], Field(min_length=1)]
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] | None = None

    def prompt_ids(self, tokenizer: Any) -> list[int]:
        """Token ids of the conversation under the version's own chat template, which adds BOS where there is one.

        Raises:
            EngineError: the template refuses the conversation.
        """
        from jinja2 import TemplateError

        try:
            ids = tokenizer.apply_chat_template(
                [message.plain() for message in self.messages],
                tokenize=True,
                return_dict=False,
                add_generation_prompt=self.add_generation_prompt and not self.continue_final_message,
                continue_final_message=self.continue_final_message,
                **(self.chat_template_kwargs or {}),
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise EngineError(
                f"The model's chat template refuses these messages: {error}", code="template_error", param="messages"
            ) from error
        return list(ids)


class ChatRequest(SamplingFields, Conversation):
    """POST /v1/chat/completions."""

    max_completion_tokens: Count | None = None
    logprobs: bool | None = False
    top_logprobs: Logprobs | None = None

    @model_validator(mode="after")
    def _logprobs_first(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs belong to logprobs = true")
        return self

    @property
    def prompt_count(self) -> int:
        """A conversation is one prompt."""
        return 1

    def params(self, prompt_tokens: int, context: int) -> SamplingParams:
        """Settings; without max_tokens a completion may fill the context."""
        wanted = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return self.sampling(prompt_tokens, wanted, context, (self.top_logprobs or 0) if self.logprobs else None)


class CompletionRequest(SamplingFields):
    """POST /v1/completions."""

    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    add_special_tokens: bool = True
    logprobs: Logprobs | None = None
    echo: Literal[False] | None = False

    @property
    def prompt_count(self) -> int:
        """Prompts that ``prompt`` holds."""
        return len(self._each())

    def prompts(self, tokenizer: Any) -> list[list[int]]:
        """Token ids of each prompt; text gets the tokenizer's special tokens (BOS), ids are taken as they are.

        Raises:
            EngineError: no prompt, or an empty one.
        """
        ids = [
            tokenizer.encode(prompt, add_special_tokens=self.add_special_tokens) if isinstance(prompt, str) else prompt
            for prompt in self._each()
        ]
        if not ids or not all(ids):
            raise EngineError("The prompt is empty.", param="prompt")
        return ids

    def _each(self) -> list[Any]:
        """A list of texts or of lists of ids, whatever was sent."""
        single = isinstance(self.prompt, str) or (bool(self.prompt) and isinstance(self.prompt[0], int))
        return [self.prompt] if single else list(self.prompt)

    def params(self, prompt_tokens: int, context: int) -> SamplingParams:
        """Settings; without max_tokens a completion has 16, as OpenAI has it."""
        wanted = _DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens
        return self.sampling(prompt_tokens, wanted, context, self.logprobs)


class TokenizeChat(Conversation):
    """POST /tokenize with messages."""

    model: Annotated[str, Field(min_length=1)]


class TokenizeText(_Body):
    """POST /tokenize with text."""

    model: Annotated[str, Field(min_length=1)]
    prompt: str
    add_special_tokens: bool = True


class LoadAdapter(_Body):
    """POST /v1/load_lora_adapter. Without a path, the version of that name in the versions directory."""

    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: str | None = None


class UnloadAdapter(_Body):
    """POST /v1/unload_lora_adapter."""

    lora_name: Annotated[str, Field(min_length=1)]
    lora_int_id: int | None = None
