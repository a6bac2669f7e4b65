"""The columns of a row in TRL's form: texts, conversations, tools and what else a chat template takes, each checked."""

import json
from typing import Any

Message = dict[str, Any]
"""'role', 'content', and whatever else the chat template reads: tool_calls, name, reasoning_content, …"""
Text = str | list[Message]
"""A plain text or a conversation."""


def text(row: dict[str, Any], name: str) -> Text:
    """The plain text or the conversation in column ``name``. Raises ValueError, naming the column."""
    value = row.get(name)
    if name not in row:
        raise ValueError(
            f"no {name!r} among the columns {', '.join(row)}; a row has prompt, chosen and rejected (the prompt may "
            "stand in both answers), or prompt, completion and label"
        )
    if value in (None, "", []):
        raise ValueError(f"{name} is empty; fill it in, or remove the row")
    if isinstance(value, str):
        return str(_whole(value, name))
    if not isinstance(value, list):
        raise ValueError(f"{name} is {type(value).__name__}; it must be a text or a list of messages")  # noqa: TRY004
    return [_message(item, name) for item in value]


def number(row: dict[str, Any], name: str, default: float) -> float:
    """A finite number. Raises ValueError, naming the column."""
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"{name} {value!r} is not a finite number; give one, or leave it out")
    return float(value)


def tools(row: dict[str, Any]) -> list[Any] | None:
    """The tools that the conversation may call: a list of JSON schemas, or that list as JSON. Raises ValueError."""
    value = row.get("tools")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"tools is a text that is not JSON: {error}; write the list of tools as JSON") from error
    if value is not None and not (isinstance(value, list) and all(isinstance(tool, dict) for tool in value)):
        raise ValueError(f"tools {value!r} is no list of JSON schemas; give one for each tool, or leave it out")
    return _whole(value, "tools") or None  # some templates open a section for an empty list, too


def template_arguments(row: dict[str, Any]) -> dict[str, Any]:
    """What else the chat template is told, 'chat_template_kwargs'. Raises ValueError."""
    value = row.get("chat_template_kwargs")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"chat_template_kwargs {value!r} is no object; write {{name: value}}, or leave it out")  # noqa: TRY004
    return {name: _whole(item, "chat_template_kwargs") for name, item in value.items() if item is not None}


def refuse_images(row: dict[str, Any]) -> None:
    """Raises ValueError for a row that a model has to see."""
    for name in ("images", "image"):
        if row.get(name):
            raise ValueError(f"{name} is not read, for models are trained on text alone; remove the column, or the row")


def split_prompt(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Prompt, chosen and rejected of a row without a prompt: what both begin with is the prompt.

    As TRL does it: by messages, or by characters, where a space before the answers belongs to the answers.
    """
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ValueError("chosen and rejected are of two kinds; make both texts or both lists of messages")
    shared = shared_length(chosen, rejected)
    if isinstance(chosen, str) and shared and chosen[shared - 1] == " ":
        shared -= 1
    prompt: Text = chosen[:shared]
    rest = (chosen[shared:], rejected[shared:])
    if not prompt:
        raise ValueError(
            "no 'prompt', and chosen and rejected share no beginning that could be it; call the prompt's column "
            "'prompt'"
        )
    if not all(rest):
        raise ValueError("no 'prompt', and one answer is the beginning of the other; give the prompt by itself")
    return prompt, rest[0], rest[1]


def take_prompt_off(prompt: Text, answers: dict[str, Text]) -> tuple[Text, dict[str, Text]]:
    """Prompt and answers, where every answer is a whole conversation that begins with the prompt.

    The prompt is such a beginning itself, or the text of its user's turn (as in UltraFeedback). Other rows stay as
    they are.
    """
    beginnings = [_beginning(prompt, answer) for answer in answers.values()]
    if not beginnings[0] or any(beginning != beginnings[0] for beginning in beginnings):
        return prompt, answers
    for name, answer in answers.items():
        if len(answer) == len(beginnings[0]):
            raise ValueError(f"{name} is the prompt alone; add the answer, or remove the row")
    return beginnings[0], {name: answer[len(beginnings[0]) :] for name, answer in answers.items()}


def shared_length(one: Any, other: Any) -> int:
    """How many items (characters, messages, ids) both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _beginning(prompt: Text, answer: Text) -> list[Message]:
    """The prompt's messages at the beginning of ``answer``; none where it begins otherwise."""
    if isinstance(answer, str):
        return []
    if not isinstance(prompt, str):
        return prompt if answer[: len(prompt)] == prompt else []
    place = next((i for i, message in enumerate(answer) if message["role"] == "user"), None)
    if place is None or str(answer[place].get("content")).strip() != prompt.strip():
        return []
    return answer[: place + 1]


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004
            f"{name} is a list of {type(value).__name__}; it must be one text, or a list of messages with 'role' and "
            "'content'"
        )
    message = {field: item for field, item in value.items() if item is not None}
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        message["content"] = "".join(str(part.get("text") or "") for part in content)
    says = isinstance(message.get("content"), str) or ("content" not in message and message.get("tool_calls"))
    if not says or not isinstance(message.get("role"), str):
        raise ValueError(
            f"{name} holds a message without a text for 'role' and 'content'; it has {', '.join(map(str, value))}"
        )
    return {field: _whole(item, name) for field, item in message.items()}


def _whole(value: Any, name: str) -> Any:
    """``value``, if its texts are made of whole characters: JSON can write half of one, which no tokenizer takes."""
    if isinstance(value, dict):
        return {field: _whole(item, name) for field, item in value.items()}
    if isinstance(value, list):
        return [_whole(item, name) for item in value]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise ValueError(
                f"{name} holds half a character, {half}; remove it, or write the other half, too"
            ) from error
    return value
