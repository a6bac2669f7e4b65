"""Preference files of this field as groups: TRL's rows (``rows``), JSON lines or Parquet; or our own format.

Rows of equal prompts become one group, so that the prompt is computed once. Texts are tokenised here, once.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.trainer.audit import Finding
from worker.trainer.data import Completion, Group, Label, Preference, parse_group
from worker.trainer.errors import RefusedError
from worker.trainer.reading import Reading
from worker.trainer.rows import Judged, Reader

DEFAULT_EVAL_FRACTION = 0.1
FORMATS = "JSON lines (.jsonl or .json, one object a line; also .gz) and Parquet (.parquet) are read"

Row = tuple[str, dict[str, Any]]
"""Where a row stands ('data.jsonl line 3'), and its columns."""


@dataclass(slots=True)
class _Prompt:
    """What the rows of one prompt add up to."""

    ids: list[int]
    split: Literal["train", "eval"]
    completions: list[Completion] = field(default_factory=list)
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Of the completions, by their ids."""
    preferences: list[Preference] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def load_groups(
    file: Path, tokenizer: Any, eos_ids: frozenset[int], eval_fraction: float | None
) -> tuple[list[Group], list[Finding]]:
    """The preferences in ``file`` as groups, and what the audit should tell of how they were read.

    Of the prompts of rows about ``eval_fraction`` (None: ``DEFAULT_EVAL_FRACTION``) are held out, by their hash.

    Raises:
        RefusedError: the file cannot be read, or a row is wrong; it names file, line and field.
    """
    prompts: dict[tuple[int, ...], _Prompt] = {}
    groups: list[Group] = []
    seen: dict[str, str] = {}
    reading = Reading()
    reader = Reader(tokenizer, eos_ids, reading)
    fraction = DEFAULT_EVAL_FRACTION if eval_fraction is None else eval_fraction
    for where, row in _rows(file):
        try:
            if "prompt_ids" in row:
                group = _group(row)
                if group.id in seen:
                    raise ValueError(f"group id {group.id!r} was on {seen[group.id]} already; ids are unique")  # noqa: TRY301
                seen[group.id] = where
                groups.append(group)
            else:
                _add(prompts, reader.read(row), eos_ids, fraction)
        except (ValueError, TypeError) as error:
            raise RefusedError(f"{where}: {error}") from error
    for prompt in prompts.values():
        name = _digest(prompt.ids)[:16]
        groups.append(Group(name, prompt.split, prompt.ids, prompt.completions, prompt.preferences, prompt.labels, []))
    if not groups:
        raise RefusedError(f"{file} holds no rows; write one for each preference")
    return groups, [*reading.findings(), *_held_out(list(prompts.values()), eval_fraction, fraction)]


def _held_out(prompts: list[_Prompt], asked: float | None, fraction: float) -> list[Finding]:
    """Whether the share that was asked for, or is the usual one, came to nothing."""
    if not prompts:
        note = "eval_fraction means nothing for groups, which say by themselves what is held out; leave it out"
        return [] if asked is None else [Finding("groups held out by eval_fraction", "0", "warn", note)]
    if fraction == 0 or any(prompt.split == "eval" for prompt in prompts):
        return []
    note = "there will be no held-out figures; raise eval_fraction, or set it to 0 if none are wanted"
    return [Finding("prompts held out", f"0 of {len(prompts)}, at a share of {fraction:g}", "warn", note)]


def _group(row: dict[str, Any]) -> Group:
    if "completions" not in row:
        raise ValueError(
            "has prompt_ids and no completions, as rows that TRL has tokenised; give their texts (prompt, chosen and "
            "rejected) without the columns of ids, or Hone's groups"
        )
    return parse_group(row)


def _rows(file: Path) -> Iterator[Row]:
    if file.is_dir():
        raise RefusedError(f"{file} is a directory; name the JSONL or Parquet file in it")
    return _parquet_rows(file) if file.suffix.lower() == ".parquet" else _json_rows(file)


def _json_rows(file: Path) -> Iterator[Row]:
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        # A byte order mark is skipped. Bytes that are no UTF-8 become lone surrogates, so that their line is known.
        with opened(file, "rt", encoding="utf-8-sig", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file.name} line {number}", _object(line, f"{file.name} line {number}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RefusedError(f"{file} cannot be unpacked: {error}; pack it again, or give it as it is") from error
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}; {FORMATS}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        line.encode()
        row = json.loads(line, object_pairs_hook=_each_key_once)
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) - 0xDC00
        raise RefusedError(
            f"{where}: byte 0x{byte:02x} in column {error.start + 1} is not UTF-8; save the file as UTF-8 text; "
            f"{FORMATS}"
        ) from error
    except _TwiceError as error:
        raise RefusedError(
            f"{where}: the key {error.args[0]!r} stands in one object twice; keep one of them"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            f"{where}: not JSON: {error}; write one object a line, {{...}}, for each row; {FORMATS}"
        ) from error
    if not isinstance(row, dict):
        raise RefusedError(
            f"{where}: holds {type(row).__name__}, not an object; write one object a line for each row; {FORMATS}"
        )
    return row


class _TwiceError(Exception):
    """A key that an object has twice."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return made


def _parquet_rows(file: Path) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name} row {number}", {name: _without_nulls(value) for name, value in row.items()}
    except (OSError, ArrowException) as error:
        raise RefusedError(
            f"{file} cannot be read as Parquet: {error}; JSON lines have the ending .jsonl or .json"
        ) from error


def _without_nulls(value: Any) -> Any:
    """Objects of a column share all their fields in Parquet, and have null for those that they lack."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _add(
    prompts: dict[tuple[int, ...], _Prompt], judged: Judged, eos_ids: frozenset[int], eval_fraction: float
) -> None:
    """Count one row in."""
    key = tuple(judged.prompt_ids)
    if key not in prompts:
        # Rows of one text are in one split, also where their answers cut it in several places.
        share = int(_digest(judged.whole_prompt_ids)[:8], 16) / 0x1_0000_0000
        prompts[key] = _Prompt(judged.prompt_ids, "eval" if share < eval_fraction else "train")
    prompt = prompts[key]
    places = []
    for answer in judged.answers:
        place = prompt.places.setdefault(tuple(answer.ids), len(prompt.completions))
        if place == len(prompt.completions):
            end = "eos" if answer.ids[-1] in eos_ids else "human"
            prompt.completions.append(Completion(f"c{place}", answer.ids, answer.text, end))
        places.append(place)
    if judged.desirable is not None:
        prompt.labels.append(Label(places[0], judged.desirable, judged.weight))
        return
    name = f"p{len(prompt.preferences)}"
    prompt.preferences.append(Preference(name, places[0], places[1], "a", judged.margin, judged.weight))


def _digest(ids: list[int]) -> str:
    return hashlib.sha256(repr(ids).encode()).hexdigest()
