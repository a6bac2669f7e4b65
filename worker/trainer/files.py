"""Files of rows: JSON lines or a list in JSON, packed or not, and Parquet; one by its name, or several by a pattern."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from worker.trainer.errors import RefusedError

FORMATS = (
    "JSON lines (.jsonl or .json, one object a line; also .gz), a list in JSON (.json) and Parquet (.parquet) are read"
)

Row = tuple[str, dict[str, Any] | ValueError]
"""Where a row stands ('data.jsonl line 3'), and its columns; or what keeps it from being one."""


def named(files: Sequence[Path]) -> list[Path]:
    """The files, each once; those that a pattern names in the order of their names. Raises RefusedError."""
    found: list[Path] = []
    for file in files:
        if file.exists() or not set(str(file)) & set("*?["):
            found.append(file)
            continue
        # The pattern may be absolute, which Path.glob does not take.
        places = Path(file.anchor).glob(str(file.relative_to(file.anchor)))
        matching = sorted(place for place in places if place.is_file())
        if not matching:
            raise RefusedError(
                f"no file is named like {file}; see which there are, and mind the quotes around a pattern"
            )
        found += matching
    return list(dict.fromkeys(found))


def rows_of(file: Path) -> Iterator[Row]:
    """The rows in ``file``, also those that are none. Raises RefusedError for a file that cannot be read."""
    if file.is_dir():
        endings = {entry.suffix for entry in file.rglob("*") if entry.suffix in (".parquet", ".jsonl", ".gz")}
        pattern = file / "**" / f"*{min(endings, default='.jsonl')}"
        raise RefusedError(
            f"{file} is a directory; name a file in it, or those to train on by a pattern in quotes, as '{pattern}'"
        )
    return _parquet_rows(file) if file.suffix.lower() == ".parquet" else _json_rows(file)


def _json_rows(file: Path) -> Iterator[Row]:
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        # A byte order mark is skipped. Bytes that are no UTF-8 become lone surrogates, so that their line is known.
        with opened(file, "rt", encoding="utf-8-sig", errors="surrogateescape") as lines:
            first = True
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                if first and ".json" in file.suffixes and line.lstrip().startswith("["):
                    yield from _listed(line + lines.read(), file.name)
                else:
                    yield f"{file.name} line {number}", _row(line)
                first = False
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RefusedError(f"{file} cannot be unpacked: {error}; pack it again, or give it as it is") from error
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}; {FORMATS}") from error


def _listed(text: str, name: str) -> Iterator[Row]:
    """The rows of a list in JSON, which may go over many lines. Raises RefusedError where it is not JSON."""
    try:
        rows = _parsed(text)
    except ValueError as error:
        raise RefusedError(f"{name}: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{name} row {number}", row if isinstance(row, dict) else _no_object(row)


def _row(line: str) -> dict[str, Any] | ValueError:
    try:
        row = _parsed(line)
    except ValueError as error:
        return error
    return row if isinstance(row, dict) else _no_object(row)


def _parsed(text: str) -> Any:
    """Raises ValueError, saying what is wrong."""
    try:
        text.encode()
        return json.loads(text, object_pairs_hook=_each_key_once)
    except UnicodeEncodeError as error:
        byte, column = ord(text[error.start]) - 0xDC00, error.start - text.rfind("\n", 0, error.start)
        raise ValueError(
            f"byte 0x{byte:02x} in column {column} is not UTF-8; save the file as UTF-8 text; {FORMATS}"
        ) from error
    except _TwiceError as error:
        raise ValueError(f"the key {error.args[0]!r} stands in one object twice; keep one of them") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}; write one object a line, {{...}}, for each row; {FORMATS}") from error


def _no_object(row: Any) -> ValueError:
    return ValueError(f"holds {type(row).__name__}, not an object; write one object a line for each row; {FORMATS}")


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
