"""Preference files of this field as groups: TRL's rows, JSONL or Parquet, plain or conversational; or our own format.

Rows of equal prompts become one group, so that the prompt is computed once. Texts are tokenised here, once.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.trainer.data import Completion, Group, Preference, parse_group
from worker.trainer.errors import RefusedError

Row = tuple[str, dict[str, Any]]
"""Where a row stands ('data.jsonl line 3'), and its columns."""


@dataclass(slots=True)
class _Prompt:
    """What the rows of one prompt add up to."""

    ids: list[int]
    completions: dict[tuple[int, ...], Completion] = field(default_factory=dict)
    preferences: list[Preference] = field(default_factory=list)


def load_groups(file: Path, tokenizer: Any, eos_ids: frozenset[int], eval_fraction: float) -> list[Group]:
    """The preferences in ``file`` as groups; about ``eval_fraction`` of the prompts are held out, by their hash.

    Raises:
        RefusedError: the file cannot be read, or a row is wrong; it names file, line and field.
    """
    prompts: dict[tuple[int, ...], _Prompt] = {}
    groups: list[Group] = []
    for where, row in _rows(file):
        try:
            if "prompt_ids" in row:
                groups.append(parse_group(row))
            else:
                _add(prompts, row, tokenizer, eos_ids)
        except (ValueError, TypeError) as error:
            raise RefusedError(f"{where}: {error}") from error
    for prompt in prompts.values():
        name = hashlib.sha256(repr(prompt.ids).encode()).hexdigest()
        split: Literal["train", "eval"] = "eval" if int(name[:8], 16) / 0x1_0000_0000 < eval_fraction else "train"
        completions = list(prompt.completions.values())
        groups.append(Group(name[:16], split, prompt.ids, completions, prompt.preferences, [], []))
    if not groups:
        raise RefusedError(f"{file} holds no rows")
    return groups


def _rows(file: Path) -> Iterator[Row]:
    if file.suffix == ".parquet":
        yield from _parquet_rows(file)
        return
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file.name} line {number}", _object(line, f"{file.name} line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} cannot be read as JSON lines: {error}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RefusedError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise RefusedError(f"{where}: holds {type(row).__name__}, not an object")
    return row


def _parquet_rows(file: Path) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name} row {number}", row
    except (OSError, ArrowException) as error:
        raise RefusedError(f"{file} cannot be read as Parquet: {error}") from error


def _add(prompts: dict[tuple[int, ...], _Prompt], row: dict[str, Any], tokenizer: Any, eos_ids: frozenset[int]) -> None:
    """Count one TRL row in. Raises ValueError, naming the field."""
    for name in ("prompt", "chosen", "rejected"):
        if row.get(name) in (None, "", []):
            raise ValueError(f"no {name!r}; a row has an explicit prompt, a chosen and a rejected answer")
    if isinstance(row["prompt"], str):
        prompt_ids, answers = _plain(row, tokenizer, eos_ids)
    else:
        prompt_ids, answers = _conversation(row, tokenizer, eos_ids)
    prompt = prompts.setdefault(tuple(prompt_ids), _Prompt(prompt_ids))
    places = []
    for ids, text in answers:
        end = "eos" if ids[-1] in eos_ids else "human"
        made = Completion(f"c{len(prompt.completions)}", ids, text, end)
        prompt.completions.setdefault(tuple(ids), made)
        places.append(list(prompt.completions).index(tuple(ids)))
    if places[0] == places[1]:
        raise ValueError("chosen and rejected are the same tokens")
    margin, weight = _number(row, "margin", 0.0), _number(row, "weight", 1.0)
    if weight < 0:
        raise ValueError(f"weight {weight:g} is negative")
    name = f"p{len(prompt.preferences)}"
    prompt.preferences.append(Preference(name, places[0], places[1], "a", margin, weight))


_Answer = tuple[list[int], str]


def _plain(row: dict[str, Any], tokenizer: Any, eos_ids: frozenset[int]) -> tuple[list[int], list[_Answer]]:
    """Prompt as the tokenizer begins a text (BOS where it has one), answers as text that ends."""
    prompt_ids = list(tokenizer(row["prompt"])["input_ids"])
    while len(prompt_ids) > 1 and prompt_ids[-1] in eos_ids:  # some tokenizers end every text
        prompt_ids.pop()
    answers = []
    for name in ("chosen", "rejected"):
        text = row[name]
        if not isinstance(text, str):
            raise ValueError(f"{name} is {type(text).__name__}, but prompt is a text; make both texts")  # noqa: TRY004
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        answers.append((ids if ids and ids[-1] in eos_ids else [*ids, tokenizer.eos_token_id], text))
    return prompt_ids, answers


def _conversation(row: dict[str, Any], tokenizer: Any, eos_ids: frozenset[int]) -> tuple[list[int], list[_Answer]]:
    """Prompt and answers as the chat template renders them; an answer ends at its last end token."""
    messages = _messages(row["prompt"], "prompt")
    prompt_ids = _render(tokenizer, messages, add_generation_prompt=True)
    answers = []
    for name in ("chosen", "rejected"):
        answer = _messages(row[name], name)
        whole = _render(tokenizer, messages + answer, add_generation_prompt=False)
        if whole[: len(prompt_ids)] != prompt_ids:
            raise ValueError(
                f"the chat template renders prompt + {name} other than prompt alone, so the answer cannot be told from "
                "it; give plain texts, or token ids in the group format"
            )
        ids = whole[len(prompt_ids) :]
        ends = [place for place, token in enumerate(ids) if token in eos_ids]
        ids = ids[: ends[-1] + 1] if ends else ids
        if not ids:
            raise ValueError(f"{name} is empty")
        answers.append((ids, tokenizer.decode(ids, skip_special_tokens=True)))
    return prompt_ids, answers


def _render(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
    from jinja2 import TemplateError

    try:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, return_dict=False)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {error}") from error
    return list(ids)


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is {type(value).__name__}; it must be a text or a list of messages like prompt")  # noqa: TRY004
    for message in value:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise ValueError(f"{name} holds a message without a text for 'role' and 'content'")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _number(row: dict[str, Any], name: str, default: float) -> float:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"{name} {value!r} is not a finite number")
    return float(value)
