"""Preference files of this field as groups: TRL's rows (``rows``), JSONL or Parquet; or our own format.

Rows of equal prompts become one group, so that the prompt is computed once. Texts are tokenised here, once.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.trainer.data import Completion, Group, Label, Preference, parse_group
from worker.trainer.errors import RefusedError
from worker.trainer.rows import Judged, Reader

Row = tuple[str, dict[str, Any]]
"""Where a row stands ('data.jsonl line 3'), and its columns."""


@dataclass(slots=True)
class _Prompt:
    """What the rows of one prompt add up to."""

    ids: list[int]
    completions: dict[tuple[int, ...], Completion] = field(default_factory=dict)
    preferences: list[Preference] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def load_groups(file: Path, tokenizer: Any, eos_ids: frozenset[int], eval_fraction: float) -> list[Group]:
    """The preferences in ``file`` as groups; about ``eval_fraction`` of the prompts are held out, by their hash.

    Raises:
        RefusedError: the file cannot be read, or a row is wrong; it names file, line and field.
    """
    prompts: dict[tuple[int, ...], _Prompt] = {}
    groups: list[Group] = []
    seen: dict[str, str] = {}
    reader = Reader(tokenizer, eos_ids)
    for where, row in _rows(file):
        try:
            if "prompt_ids" in row:
                group = parse_group(row)
                if group.id in seen:
                    raise ValueError(f"group id {group.id!r} was on {seen[group.id]} already; ids are unique")  # noqa: TRY301
                seen[group.id] = where
                groups.append(group)
            else:
                _add(prompts, reader.read(row), eos_ids)
        except (ValueError, TypeError) as error:
            raise RefusedError(f"{where}: {error}") from error
    for prompt in prompts.values():
        name = hashlib.sha256(repr(prompt.ids).encode()).hexdigest()
        split: Literal["train", "eval"] = "eval" if int(name[:8], 16) / 0x1_0000_0000 < eval_fraction else "train"
        completions = list(prompt.completions.values())
        groups.append(Group(name[:16], split, prompt.ids, completions, prompt.preferences, prompt.labels, []))
    if not groups:
        raise RefusedError(f"{file} holds no rows; write one for each preference")
    return groups


def _rows(file: Path) -> Iterator[Row]:
    if file.is_dir():
        raise RefusedError(f"{file} is a directory; name the JSONL or Parquet file in it")
    return _parquet_rows(file) if file.suffix.lower() == ".parquet" else _json_rows(file)


def _json_rows(file: Path) -> Iterator[Row]:
    try:
        # A byte order mark is skipped. Bytes that are no UTF-8 become lone surrogates, so that their line is known.
        with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file.name} line {number}", _object(line, f"{file.name} line {number}")
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}; name a JSONL or Parquet file") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        line.encode()
        row = json.loads(line)
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) - 0xDC00
        raise RefusedError(
            f"{where}: byte 0x{byte:02x} in column {error.start + 1} is not UTF-8; save the file as UTF-8 text without "
            "compression, or as Parquet with the ending .parquet"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{where}: not JSON: {error}; write one object a line, {{...}}, for each row") from error
    if not isinstance(row, dict):
        raise RefusedError(f"{where}: holds {type(row).__name__}, not an object; write one object a line for each row")
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
        raise RefusedError(
            f"{file} cannot be read as Parquet: {error}; JSON lines have the ending .jsonl or .json"
        ) from error


def _add(prompts: dict[tuple[int, ...], _Prompt], judged: Judged, eos_ids: frozenset[int]) -> None:
    """Count one row in."""
    prompt = prompts.setdefault(tuple(judged.prompt_ids), _Prompt(judged.prompt_ids))
    places = []
    for answer in judged.answers:
        end = "eos" if answer.ids[-1] in eos_ids else "human"
        made = Completion(f"c{len(prompt.completions)}", answer.ids, answer.text, end)
        prompt.completions.setdefault(tuple(answer.ids), made)
        places.append(list(prompt.completions).index(tuple(answer.ids)))
    if judged.desirable is not None:
        prompt.labels.append(Label(places[0], judged.desirable, judged.weight))
        return
    name = f"p{len(prompt.preferences)}"
    prompt.preferences.append(Preference(name, places[0], places[1], "a", judged.margin, judged.weight))
