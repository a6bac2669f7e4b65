"""Reading the answers of an engine, ours or vLLM's, and never trusting them."""

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import httpx

from app.engine.errors import EngineNonsense, EngineRefused, EngineUnavailable
from app.engine.places import EngineKind

FinishReason = Literal["stop", "length"]

_LATER = {408, 425, 429, 502, 503, 504}
_DAMAGED = {"version_damaged", "version_unusable", "load_failed", "not_finite"}  # a server error that no retry mends
_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion. ``token_ids`` are those that were sampled, the end token included if the model produced it;
    ``finish_reason`` is what the server says, and only ``token_ids`` prove that the model ended by itself."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Sampled:
    """The completions of one prompt, in the order of their index. ``prompt_ids`` is what the model saw."""

    prompt_ids: list[int]
    choices: list[Choice]


def read_json(response: httpx.Response) -> dict[str, Any]:
    """The object a good answer holds.

    Raises:
        EngineUnavailable, EngineRefused: the answer is an error.
        EngineNonsense: it is no JSON object.
    """
    if not response.is_success:
        raise_error(response)
    try:
        data = response.json()
    except ValueError as error:
        raise EngineNonsense(f"{_place(response)}: not JSON: {_excerpt(response)!r}") from error
    if not isinstance(data, dict):
        raise EngineNonsense(f"{_place(response)}: {type(data).__name__} where an object was expected")
    return data


def raise_error(response: httpx.Response) -> NoReturn:
    """Raise what an answer of status 300 and above means.

    Servers differ: ours and OpenAI nest ``{"error": {…}}`` with a word as code, vLLM had it flat with the status as
    code and lets its proxy or FastAPI answer ``{"error": "Unauthorized"}``, ``{"detail": …}`` or plain text.
    """
    status = response.status_code
    try:
        data = response.json()
    except (ValueError, httpx.ResponseNotRead):
        data = None
    message, code, _ = described(data)
    message = message or _excerpt(response) or response.reason_phrase
    raise error_of(status, code, message[:_EXCERPT], _place(response), _retry_after(response))


def error_of(
    status: int, code: str | None, message: str, place: str, retry_after_seconds: float | None = None
) -> EngineUnavailable | EngineRefused:
    """What an error of ``status`` means to us; ``code`` None where the server has no word for it."""
    code = code or _guess_code(status, message)
    said = f"{place}: {status}: {message}"
    if code in _DAMAGED:
        return EngineRefused(code, said)
    if status in _LATER or status >= 500:
        return EngineUnavailable(said, retry_after_seconds=retry_after_seconds, asleep=code == "asleep")
    return EngineRefused(code, said)


def described(data: Any) -> tuple[str, str | None, int | None]:
    """Message ("" for none), word, and status of an error's JSON, whatever its shape."""
    error = data.get("error", data) if isinstance(data, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {}
    message = error.get("message") or error.get("detail") or error.get("error_message") or ""
    if not isinstance(message, str):
        message = json.dumps(message)
    code = error.get("code")
    word = code if isinstance(code, str) and not code.isdigit() else None
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None
    return message, word, status


def read_sampled(data: dict[str, Any], n: int, kind: EngineKind = "vllm") -> Sampled:
    """The completions in a chat answer; ``prompt_ids`` is empty when the server left them out.

    SGLang has the prompt's ids in each choice. It also answers for models that it does not have, so that whoever was
    not told of it must not believe it.

    Raises:
        EngineUnavailable: the server gave up on the request.
        EngineNonsense: a number of choices other than ``n``, no token ids, or a shape that is not the protocol's.
    """
    choices = data.get("choices")
    if not isinstance(choices, list) or len(choices) != n:
        count = len(choices) if isinstance(choices, list) else "no"
        raise EngineNonsense(f"{n} completions were asked for, {count} came back")
    if not all(isinstance(choice, dict) for choice in choices):
        raise EngineNonsense("a choice is not an object")
    ordered = sorted(enumerate(choices), key=lambda pair: _index(pair[1], pair[0]))
    if [_index(choice, place) for place, choice in ordered] != list(range(n)):
        raise EngineNonsense(f"the choices' indexes are not 0 … {n - 1}")
    prompt_ids = data.get("prompt_token_ids")
    if prompt_ids is None and ordered[0][1].get("prompt_token_ids") is not None:
        if kind != "sglang":
            raise EngineNonsense("this is an answer of SGLang's; set HONE_ENGINE_KIND=sglang")
        prompt_ids = ordered[0][1]["prompt_token_ids"]
    return Sampled(
        prompt_ids=[] if prompt_ids is None else _ids(prompt_ids, "prompt_token_ids"),
        choices=[_choice(choice) for _, choice in ordered],
    )


def _choice(data: dict[str, Any]) -> Choice:
    message = data.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, str | None):
        raise EngineNonsense("a choice has no message with text")
    reason = data.get("finish_reason")
    if reason == "abort":
        raise EngineUnavailable("the engine aborted the request")
    if reason not in ("stop", "length"):
        raise EngineNonsense(f"finish_reason {reason!r} is neither 'stop' nor 'length'")
    if data.get("token_ids") is None:
        raise EngineNonsense(
            "the engine returned no token ids, so what was sampled cannot be trained on exactly; "
            "return_token_ids needs vLLM 0.10.2, or an SGLang of July 2026, or newer"
        )
    return Choice(content or "", _ids(data["token_ids"], "token_ids"), reason)


def _index(choice: dict[str, Any], place: int) -> int:
    index = choice.get("index", place)
    return index if isinstance(index, int) else -1


def _ids(value: Any, name: str) -> list[int]:
    good = isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value)
    if not good or not value:
        raise EngineNonsense(f"{name} is not a list of token ids")
    return list(value)


def _guess_code(status: int, message: str) -> str:
    """A stable code for servers that only repeat the status."""
    lowered = message.lower()
    if "context length" in lowered or "max_model_len" in lowered or "maximum model length" in lowered:
        return "context_length_exceeded"
    if "lora adapters are not loaded" in lowered:
        return "model_not_found"  # SGLang's words, with status 400
    if status == 404:
        return "model_not_found" if "model" in lowered else "not_found"
    return {401: "unauthorized", 403: "forbidden", 429: "queue_full"}.get(status, "refused")


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _place(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.path}"


def _excerpt(response: httpx.Response) -> str:
    return response.text[:_EXCERPT]
