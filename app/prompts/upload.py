"""Prompts out of a file: JSON Lines or CSV, read as a stream, every bad row named with its line and what to do."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, BinaryIO

from app.errors import InvalidError
from app.language import _, _n, listed
from app.language.figures import Figure
from app.prompts.conversations import Conversation, ConversationError, from_text, normalise

MAX_ROWS = 50_000
MAX_LINE_BYTES = 2**20
_MOJIBAKE_HINT = _("Save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8').")
_KEYS = ("prompt", "messages")


@dataclass(frozen=True, slots=True)
class Row:
    """A good row: its line in the file (from 1) and its conversation."""

    line: int
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class RowError:
    """A bad row: its line in the file (from 1) and what is wrong with it."""

    line: int
    message: str


class UploadInvalidError(InvalidError):
    """The file as a whole cannot be read; nothing of it was kept."""

    code = "invalid_upload"
    title = _("This file cannot be read")


class UploadTooLargeError(InvalidError):
    """More rows than one upload may have; nothing of it was kept."""

    code = "upload_too_large"
    status = 413
    title = _("This file is too large")


def parse_upload(
    data: bytes | BinaryIO, filename: str, *, max_chars: int = 100_000, max_rows: int = MAX_ROWS
) -> tuple[list[Row], list[RowError]]:
    """The good rows and the bad ones of an uploaded file.

    JSON Lines (.jsonl, .ndjson): {"prompt": text}, {"prompt": [messages]} or {"messages": [messages]} on each line.
    CSV (.csv): a header with the column ``prompt``, which also says whether commas or semicolons separate. A byte-order
    mark is passed over; blank lines are, too.

    Args:
        data: the file, or its bytes; a file is read line by line.
        max_chars: longest conversation, characters.
        max_rows: most rows in one file.

    Raises:
        UploadInvalidError: neither kind of file, no rows at all, or no column ``prompt``.
        UploadTooLargeError: more than ``max_rows`` rows.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    ending = PurePath(filename).suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        parsed = _json_lines(stream, max_chars)
    elif ending == ".csv":
        parsed = _csv(stream, max_chars)
    else:
        raise UploadInvalidError(
            _("%(filename)s is neither .jsonl nor .csv", filename=repr(filename)),
            mend=_("Upload JSON Lines (.jsonl), one prompt on each line, or CSV (.csv) with a column 'prompt'."),
        )
    rows: list[Row] = []
    errors: list[RowError] = []
    for item in parsed:
        if len(rows) + len(errors) == max_rows:
            raise UploadTooLargeError(
                _("the file has more than %(max_rows)s rows", max_rows=Figure(max_rows)),
                mend=_("Split it into files of at most %(max_rows)s rows.", max_rows=Figure(max_rows)),
            )
        if isinstance(item, Row):
            rows.append(item)
        else:
            errors.append(item)
    if not rows and not errors:
        raise UploadInvalidError(
            _("%(filename)s has no rows", filename=repr(filename)), mend=_("Check that it is the file you meant.")
        )
    return rows, errors


def _json_lines(stream: BinaryIO, max_chars: int) -> Iterator[Row | RowError]:
    for line, text in _lines(stream):
        if isinstance(text, RowError):
            yield text
        elif text.strip():
            yield _json_row(line, text, max_chars)


def _json_row(line: int, text: str, max_chars: int) -> Row | RowError:
    try:
        value = json.loads(text)
    except RecursionError:
        return RowError(line, _("this is not a prompt: it is nested too deeply"))
    except ValueError as error:
        told = (
            _("this is not JSON (%(error)s); a .jsonl file has one object on each line, not one list", error=error)
            if text.lstrip().startswith("[")
            else _("this is not JSON (%(error)s)", error=error)
        )
        return RowError(line, told)
    if not isinstance(value, dict):
        return RowError(
            line, _('each line must be an object such as {"prompt": "…"}, not %(value)s', value=json.dumps(value)[:40])
        )
    keys = [key for key in _KEYS if key in value]
    if len(keys) != 1:
        found = ", ".join(sorted(map(str, value))[:6]) or _("no key at all")
        return RowError(
            line, _("needs either 'prompt' or 'messages', and only one of them; it has %(found)s", found=found)
        )
    value = value[keys[0]]
    as_turns = isinstance(value, list) or (keys[0] == "messages" and not isinstance(value, str))
    return _conversation(line, value, max_chars, as_turns=as_turns)


def _conversation(line: int, value: Any, max_chars: int, *, as_turns: bool = False) -> Row | RowError:
    read = normalise if as_turns else from_text
    try:
        return Row(line, read(value, max_chars=max_chars))
    except ConversationError as error:
        return RowError(line, error.message)


def _csv(stream: BinaryIO, max_chars: int) -> Iterator[Row | RowError]:
    unreadable: list[RowError] = []
    texts = _texts(stream, unreadable)
    first = list(islice(texts, 1))
    reader = csv.reader(chain(first, texts), delimiter=_delimiter(*first), strict=True)
    column, columns = None, 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield _broken_record(start, reader.line_num, error)
            continue
        if unreadable:  # the record holds a line that could not be read: none of it is kept
            if column is None:
                raise UploadInvalidError(_("the first line cannot be read: %(message)s", message=unreadable[0].message))
            yield from unreadable
            unreadable.clear()
        elif cells is None:
            return
        elif column is None:
            column, columns = _prompt_column(cells), len(cells)
        elif any(cell.strip() for cell in cells):
            yield _csv_row(start, cells, column, columns, max_chars)


def _texts(stream: BinaryIO, unreadable: list[RowError]) -> Iterator[str]:
    """The lines of a file; one that cannot be read is blank, and its error is added to ``unreadable``."""
    for _line, text in _lines(stream):
        if isinstance(text, RowError):
            unreadable.append(text)
        yield "\n" if isinstance(text, RowError) else text


def _delimiter(header: str = "") -> str:
    """What separates the cells: a semicolon where only that makes a column 'prompt' of the header, else a comma."""

    def finds_prompt(delimiter: str) -> bool:
        try:
            return "prompt" in _names(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:  # the reader of the whole file says so
            return False

    return ";" if finds_prompt(";") and not finds_prompt(",") else ","


def _csv_row(line: int, cells: list[str], column: int, columns: int, max_chars: int) -> Row | RowError:
    if len(cells) > columns:
        told = _n(
            "the row has %(cells)s cells and the header %(n)s column; put a text with the separator in it in quotes",
            "the row has %(cells)s cells and the header %(n)s columns; put a text with the separator in it in quotes",
            columns,
            cells=len(cells),
        )
        return RowError(line, told)
    if column >= len(cells):
        return RowError(
            line, _("the row has %(cells)s of the header's columns and ends before 'prompt'", cells=len(cells))
        )
    return _conversation(line, cells[column], max_chars)


def _broken_record(start: int, end: int, error: csv.Error) -> RowError:
    told = _("this is not CSV (%(error)s); a quote inside a quoted text is written twice", error=error)
    if end > start:
        lost = _(
            "lines %(start)s to %(end)s were read as one row and are not kept", start=Figure(start), end=Figure(end)
        )
        told = listed((told, lost))
    return RowError(start, told)


def _prompt_column(header: list[str]) -> int:
    names = _names(header)
    if names.count("prompt") != 1:
        found = ", ".join(repr(name) for name in header[:8]) or _("nothing")
        raise UploadInvalidError(
            _("the first line must name one column 'prompt'; it has %(found)s", found=found),
            mend=_(
                "Add a first line with the columns' names, the prompts under 'prompt', "
                "separated by commas or semicolons."
            ),
        )
    return names.index("prompt")


def _names(header: list[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | RowError]]:
    """Each line with its number (from 1): its text with its ending, or why it cannot be read."""
    line = 0
    while chunk := stream.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1:
            _check_encoding(chunk)
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        if len(chunk) > MAX_LINE_BYTES and not chunk.endswith(b"\n"):
            length = len(chunk)
            while chunk and not chunk.endswith(b"\n"):
                chunk = stream.readline(MAX_LINE_BYTES)
                length += len(chunk)
            yield (
                line,
                RowError(
                    line,
                    _(
                        "the line has %(length)s bytes, at most %(max_line_bytes)s are allowed",
                        length=Figure(length),
                        max_line_bytes=Figure(MAX_LINE_BYTES),
                    ),
                ),
            )
            continue
        try:
            yield line, chunk.decode("utf-8")
        except UnicodeDecodeError as error:
            yield (
                line,
                RowError(
                    line,
                    _(
                        "byte %(start)s of this line is not UTF-8; save the file as UTF-8 "
                        "(in a spreadsheet: 'CSV UTF-8')",
                        start=error.start + 1,
                    ),
                ),
            )


def _check_encoding(start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:200]:
        raise UploadInvalidError(_("the file is UTF-16, or not a text at all"), mend=_MOJIBAKE_HINT)
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise UploadInvalidError(
            _("the file is an archive or a spreadsheet"),
            mend=_("Unpack it, or export it as CSV UTF-8, and upload that."),
        )
