"""Files of prompts: what is read, and what every bad row is told."""

import io
import json

import pytest

from app.prompts.upload import MAX_LINE_BYTES, RowError, UploadInvalidError, UploadTooLargeError, parse_upload


def said(errors: list[RowError]) -> dict[int, str]:
    return {error.line: error.message for error in errors}


def texts(data: bytes, name: str = "a.jsonl") -> list[str]:
    return [row.conversation[-1]["content"] for row in parse_upload(data, name)[0]]


def test_json_lines_takes_its_three_spellings() -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    lines = [{"prompt": "One"}, {"messages": turns}, {"prompt": turns, "id": 3}]
    rows, errors = parse_upload("\n".join(map(json.dumps, lines)).encode(), "prompts.JSONL")
    assert [row.conversation for row in rows] == [[{"role": "user", "content": "One"}], turns, turns]
    assert [row.line for row in rows] == [1, 2, 3]
    assert errors == []


def test_a_byte_order_mark_crlf_and_blank_lines_are_passed_over() -> None:
    data = b'\xef\xbb\xbf{"prompt": "One"}\r\n\r\n  \n{"prompt": "Two"}\r\n'
    rows, errors = parse_upload(data, "a.jsonl")
    assert [(row.line, row.conversation[0]["content"]) for row in rows] == [(1, "One"), (4, "Two")]
    assert errors == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"prompt": "a"', "this is not JSON"),
        (b'[{"prompt": "a"}]', "must be an object"),
        (b'[{"prompt": "a"},', "not one list"),
        (b'"a"', "must be an object"),
        (b'{"question": "a"}', "it has question"),
        (b'{"prompt": "a", "messages": []}', "only one of them"),
        (b'{"prompt": ""}', "is empty"),
        (b'{"prompt": 5}', "must be a text, not a number"),
        (b'{"prompt": {"role": "user"}}', "must be a text, not an object"),
        (b'{"messages": 5}', "at least one message"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "must end with a user's turn"),
        (b'{"prompt": "caf\xe9"}', "byte 16 of this line is not UTF-8"),
        (b'{"prompt": "\\u0000"}', "null character"),
        (b'{"prompt": "\\ud800"}', "lone surrogate"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"prompt": "' + b"x" * MAX_LINE_BYTES + b'"}', "at most 1,048,576 are allowed"),
    ],
)
def test_a_bad_line_is_named_and_the_lines_around_it_are_read(line: bytes, says: str) -> None:
    rows, errors = parse_upload(b'{"prompt": "before"}\n' + line + b'\n{"prompt": "after"}\n', "a.jsonl")
    assert [row.line for row in rows] == [1, 3]
    assert list(said(errors)) == [2]
    assert says in said(errors)[2]


def test_a_prompt_beyond_the_limit_says_both_numbers() -> None:
    _, errors = parse_upload(b'{"prompt": "' + b"x" * 30 + b'"}', "a.jsonl", max_chars=20)
    assert said(errors) == {1: "30 characters, at most 20 are allowed; shorten it"}


def test_csv_reads_the_column_prompt_over_several_lines() -> None:
    data = b'id,Prompt,note\n1,"How do I\nboil an egg?",x\n\n2,"Say ""hi""",y\n'
    rows, errors = parse_upload(data, "prompts.csv")
    assert [(row.line, row.conversation[0]["content"]) for row in rows] == [
        (2, "How do I\nboil an egg?"),
        (5, 'Say "hi"'),
    ]
    assert errors == []


def test_csv_from_a_spreadsheet_with_a_byte_order_mark() -> None:
    assert texts(b"\xef\xbb\xbfprompt\r\nOne\r\nTwo\r\n", "a.csv") == ["One", "Two"]


def test_csv_with_semicolons_is_read_where_the_header_has_them() -> None:
    data = b'\xef\xbb\xbfid;"Prompt"\r\n1;Hello, you\r\n2;"a; b"\r\n3;c;d\r\n'
    rows, errors = parse_upload(data, "a.csv")
    assert [row.conversation[0]["content"] for row in rows] == ["Hello, you", "a; b"]
    assert said(errors) == {
        4: "the row has 3 cells and the header 2 columns; put a text with the separator in it in quotes"
    }
    assert texts(b"prompt,a;b\nx; y,2\n", "a.csv") == ["x; y"]


def test_a_text_with_a_comma_of_its_own_is_never_cut() -> None:
    rows, errors = parse_upload(b'prompt\nHow are you, Head?\n"How are you, Head?"\nHm,\n', "a.csv")
    assert [(row.line, row.conversation[0]["content"]) for row in rows] == [(3, "How are you, Head?")]
    assert list(said(errors)) == [2, 4]
    assert "has 2 cells and the header 1 column; put" in said(errors)[2]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"1", "ends before 'prompt'"),
        (b"1,  ", "is empty"),
        (
            b"1,How are you, Head?",
            "has 3 cells and the header 2 columns; put a text with the separator in it in quotes",
        ),
        (b"1,caf\xe9", "is not UTF-8"),
        (b'1,"a" b', "this is not CSV"),
    ],
)
def test_a_bad_csv_row_is_named_and_the_rows_around_it_are_read(row: bytes, says: str) -> None:
    rows, errors = parse_upload(b"id,prompt\n0,before\n" + row + b"\n2,after\n", "a.csv")
    assert [row.line for row in rows] == [2, 4]
    assert list(said(errors)) == [3]
    assert says in said(errors)[3]


def test_a_csv_row_with_an_unreadable_line_inside_is_not_kept_by_half() -> None:
    rows, errors = parse_upload(b'prompt\n"first\ncaf\xe9\nlast"\nnext\n', "a.csv")
    assert [row.conversation[0]["content"] for row in rows] == ["next"]
    assert "not UTF-8" in said(errors)[3]


def test_a_quote_that_is_never_closed_says_which_lines_it_swallowed() -> None:
    rows, errors = parse_upload(b'prompt\ngood\n"open\nlost\nlost too\n', "a.csv")
    assert [row.conversation[0]["content"] for row in rows] == ["good"]
    assert "lines 3 to 5 were read as one row and are not kept" in said(errors)[3]


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (b"x", "prompts.xlsx", "neither .jsonl nor .csv"),
        (b"x", "prompts", "neither .jsonl nor .csv"),
        (b"", "a.jsonl", "has no rows"),
        (b"\n\n", "a.jsonl", "has no rows"),
        (b"prompt\n", "a.csv", "has no rows"),
        (b"question|prompt\na|b\n", "a.csv", "'question|prompt'"),
        (b"x" * 200_000 + b";prompt\na;b\n", "a.csv", "must name one column 'prompt'"),
        (b"prompt;Prompt\na;b\n", "a.csv", "'prompt', 'Prompt'"),
        (b"caf\xe9,prompt\n1,a\n", "a.csv", "first line cannot be read"),
        ("prompt\na\n".encode("utf-16"), "a.csv", "UTF-16"),
        (b"PK\x03\x04....", "a.csv", "archive or a spreadsheet"),
        (b"\x1f\x8b....", "a.jsonl", "archive or a spreadsheet"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused_whole(data: bytes, name: str, says: str) -> None:
    with pytest.raises(UploadInvalidError) as caught:
        parse_upload(data, name)
    assert says in caught.value.message


def test_too_many_rows_is_its_own_error() -> None:
    with pytest.raises(UploadTooLargeError, match="more than 2 rows") as caught:
        parse_upload(b'{"prompt": "a"}\n' * 3, "a.jsonl", max_rows=2)
    assert caught.value.status == 413
    assert len(parse_upload(b'{"prompt": "a"}\n' * 2, "a.jsonl", max_rows=2)[0]) == 2


def test_a_file_is_read_line_by_line() -> None:
    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("read the file whole")

    rows, _ = parse_upload(Watched(b'{"prompt": "a"}\n'), "a.jsonl")
    assert len(rows) == 1
