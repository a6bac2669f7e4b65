"""A row in TRL's form as token ids: explicit or implicit prompt, plain or conversational, paired or labelled.

Which form a row has is told by its columns, row by row:

    prompt, chosen, rejected        a preference
    chosen, rejected                a preference whose prompt is what both answers begin with
    prompt, completion, label       one answer that is good (true) or bad (false)
"""

from dataclasses import dataclass
from typing import Any

Message = dict[str, str]
Text = str | list[Message]
"""A plain text or a conversation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion's ids, end token included, and its text."""

    ids: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What one row says."""

    prompt_ids: list[int]
    answers: list[Answer]
    """Chosen and rejected, or the labelled one alone."""
    desirable: bool | None
    """Of a labelled row; None for a preference."""
    margin: float
    weight: float


class Reader:
    """Turns rows into ids with one tokenizer, each text once."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer, self.eos_ids = tokenizer, eos_ids

    def read(self, row: dict[str, Any]) -> Judged:
        """What ``row`` says. Raises ValueError, naming the field."""
        labelled = row.get("completion") is not None or row.get("label") is not None
        names = ("completion",) if labelled else ("chosen", "rejected")
        if labelled and (row.get("chosen") is not None or row.get("rejected") is not None):
            raise ValueError("has chosen or rejected beside completion and label; give it one form or the other")
        answers = {name: _text(row, name) for name in names}
        if labelled or row.get("prompt") not in (None, "", []):
            prompt = _text(row, "prompt")
        else:
            prompt, answers["chosen"], answers["rejected"] = split_prompt(answers["chosen"], answers["rejected"])
        desirable = row.get("label") if labelled else None
        if labelled and not isinstance(desirable, bool):
            raise ValueError(f"label {desirable!r} is neither true nor false; true says that the answer is good")
        prompt_ids, read = self._ids(prompt, answers)
        if len(read) == 2 and read[0].ids == read[1].ids:
            raise ValueError("chosen and rejected are the same tokens, so nothing can be learned; remove the row")
        margin, weight = _number(row, "margin", 0.0), _number(row, "weight", 1.0)
        if weight < 0:
            raise ValueError(f"weight {weight:g} is negative; swap chosen and rejected, or use a weight from 0")
        return Judged(prompt_ids, read, desirable, margin, weight)

    def _ids(self, prompt: Text, answers: dict[str, Text]) -> tuple[list[int], list[Answer]]:
        for name, answer in answers.items():
            if isinstance(answer, str) != isinstance(prompt, str):
                kind = "a text" if isinstance(answer, str) else "a conversation"
                raise ValueError(f"{name} is {kind} and prompt is not; make both texts or both lists of messages")
        if isinstance(prompt, str):
            prompt_ids = self._plain_prompt(prompt)
            return prompt_ids, [self._plain_answer(str(answer)) for answer in answers.values()]
        prompt_ids = self._render(prompt, add_generation_prompt=True)
        return prompt_ids, [self._turn(prompt, prompt_ids, name, answers[name]) for name in answers]

    def _plain_prompt(self, prompt: str) -> list[int]:
        """As the tokenizer begins a text: with BOS where it has one."""
        ids = list(self._tokenizer(prompt)["input_ids"])
        while len(ids) > 1 and ids[-1] in self.eos_ids:  # some tokenizers end every text
            ids.pop()
        if not ids:
            raise ValueError("prompt has no tokens; give it some text")
        return ids

    def _plain_answer(self, text: str) -> Answer:
        """A text that ends."""
        ids = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return Answer(ids if ids and ids[-1] in self.eos_ids else [*ids, self._tokenizer.eos_token_id], text)

    def _turn(self, prompt: list[Message], prompt_ids: list[int], name: str, answer: Text) -> Answer:
        """An answer as the chat template renders it behind the prompt; it ends at its last end token."""
        whole = self._render([*prompt, *answer], add_generation_prompt=False)
        if whole[: len(prompt_ids)] != prompt_ids:
            roles = ", ".join(dict.fromkeys(message["role"] for message in [*prompt, *answer] if message))
            raise ValueError(
                f"the chat template renders prompt + {name} other than prompt alone, so the answer cannot be told from "
                f"it; check the roles ({roles}), or give plain texts, or token ids in the group format"
            )
        ids = whole[len(prompt_ids) :]
        ends = [place for place, token in enumerate(ids) if token in self.eos_ids]
        ids = ids[: ends[-1] + 1] if ends else ids
        if not ids:
            raise ValueError(f"{name} is empty")
        return Answer(ids, self._tokenizer.decode(ids, skip_special_tokens=True))

    def _render(self, messages: list[Message], *, add_generation_prompt: bool) -> list[int]:
        from jinja2 import TemplateError

        try:
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=add_generation_prompt, return_dict=False
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        return list(ids)


def split_prompt(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Prompt, chosen and rejected of a row without a prompt: what both begin with is the prompt.

    As TRL does it: by messages, or by characters, where a space before the answers belongs to the answers.
    """
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ValueError("chosen and rejected are of two kinds; make both texts or both lists of messages")
    shared = next(
        (place for place, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other),
        min(len(chosen), len(rejected)),
    )
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


def _text(row: dict[str, Any], name: str) -> Text:
    value = row.get(name)
    if name not in row:
        raise ValueError(
            f"no {name!r} among the columns {', '.join(row)}; a row has prompt, chosen and rejected (the prompt may "
            "stand in both answers), or prompt, completion and label"
        )
    if value in (None, "", []):
        raise ValueError(f"{name} is empty; fill it in, or remove the row")
    if isinstance(value, str):
        return _whole(value, name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is {type(value).__name__}; it must be a text or a list of messages")  # noqa: TRY004
    return [_message(item, name) for item in value]


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004
            f"{name} is a list of {type(value).__name__}; it must be one text, or a list of messages with 'role' and "
            "'content'"
        )
    content = value.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text") or "") for part in content)
    if not isinstance(content, str) or not isinstance(value.get("role"), str):
        raise ValueError(  # noqa: TRY004
            f"{name} holds a message without a text for 'role' and 'content'; it has {', '.join(value)}"
        )
    return {"role": value["role"], "content": _whole(content, name)}


def _whole(text: str, name: str) -> str:
    """``text``, if it is made of whole characters: JSON can write half of one, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"{name} holds half a character, {half}; remove it, or write the other half, too") from error
    return text


def _number(row: dict[str, Any], name: str, default: float) -> float:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"{name} {value!r} is not a finite number; give one, or leave it out")
    return float(value)
