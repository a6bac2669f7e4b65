"""What the engine refuses, in the shape OpenAI clients know."""

from typing import Any


class EngineError(Exception):
    """An answer other than 200: ``{"error": {"message", "type", "param", "code"}}`` under ``status``."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def model_not_found(name: str) -> EngineError:
    """No version of that name."""
    return EngineError(
        f"There is no version {name!r}. GET /v1/models lists those there are.",
        status=404,
        code="model_not_found",
        param="model",
    )


def context_length_exceeded(prompt_tokens: int, max_tokens: int, context_length: int) -> EngineError:
    """Prompt and completion together do not fit the model."""
    return EngineError(
        f"The model's context is {context_length} tokens; the prompt has {prompt_tokens} and {max_tokens} were asked "
        f"for ({prompt_tokens + max_tokens} in all). Shorten the prompt or lower max_tokens.",
        code="context_length_exceeded",
        param="messages",
    )


def not_a_number() -> EngineError:
    """The model computes NaN or infinity: its training diverged, or the dtype is too small for it."""
    return EngineError(
        "The model's logits are not finite numbers: its weights are unusable, or overflow in this dtype.",
        status=500,
        code="not_finite",
        kind="server_error",
        param="model",
    )


def asleep() -> EngineError:
    """The weights are put away; someone will wake the engine."""
    return EngineError(
        "The engine is asleep: its memory is lent to something else. Try again later, or POST /wake_up.",
        status=503,
        code="asleep",
        kind="service_unavailable",
        retry_after_seconds=5,
    )


def queue_full(waiting: int, limit: int) -> EngineError:
    """More completions wait than the engine promises to get through."""
    return EngineError(
        f"{waiting} completions are waiting and the queue takes {limit}. Try again later.",
        status=429,
        code="queue_full",
        kind="rate_limit_exceeded",
        retry_after_seconds=1,
    )
