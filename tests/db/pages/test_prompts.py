"""Prompts: one by one and by file, archived, and never taken for markup."""

import io
import re
from typing import Any

import pytest
from sqlalchemy import func, select

from app.db.tables import Prompt
from tests.fixtures.portal import Caller, Portal


def upload(caller: Caller, name: str, data: bytes, keep: str = "good") -> Any:
    return caller.post("/p/tone/prompts/upload", {"keep": keep}, files={"file": (name, io.BytesIO(data))})


GOOD_AND_BAD = b'{"prompt": "One"}\nnot json\n{"prompt": "Two"}\n{"prompt": ""}\n'


def count(portal: Portal) -> int:
    with portal.db() as db:
        return db.scalar(select(func.count()).select_from(Prompt)) or 0


def test_an_upload_keeps_the_good_rows_and_shows_the_bad_ones(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.jsonl", GOOD_AND_BAD)
    assert answer.status_code == 303
    page = ann.get(answer.headers["location"])
    assert "2 of 4 rows of mine.jsonl could not be kept" in page.text
    assert re.findall(r'<th scope="row" class="num">(\d+)</th>', page.text) == ["2", "4"]
    assert "this is not JSON" in page.text
    assert count(portal) == 2
    table = ann.get(f"{answer.headers['location']}/errors.csv")
    assert table.headers["content-disposition"] == 'attachment; filename="bad-rows.csv"'
    assert [line.split(",")[0] for line in table.text.splitlines()] == ["line", "2", "4"]


def test_all_or_nothing_keeps_nothing_and_says_so(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.jsonl", GOOD_AND_BAD, keep="all")
    page = ann.get(answer.headers["location"]).text
    assert "Nothing of mine.jsonl was kept" in page
    assert "Good rows not kept" in page
    assert count(portal) == 0


@pytest.mark.parametrize(
    ("name", "data", "status", "says"),
    [
        ("mine.xlsx", b"PK", 422, "neither .jsonl nor .csv"),
        ("mine.jsonl", b"", 422, "has no rows"),
        ("mine.csv", b"question\na\n", 422, "must name one column"),
        ("mine.csv", "prompt\na\n".encode("utf-16"), 422, "UTF-16"),
        ("mine.jsonl", b'{"prompt": "x"}\n' * 50_001, 413, "more than 50,000 rows"),
        ("mine.jsonl", b"x" * (2**20 + 1), 413, "1.0 MiB"),
        ("", b"", 422, "Choose a file first"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_plain_words(
    portal: Portal, ann: Caller, name: str, data: bytes, status: int, says: str
) -> None:
    answer = upload(ann, name, data)
    assert answer.status_code == status
    assert says in answer.text.replace("&#39;", "'")
    assert count(portal) == 0


def test_a_file_of_bad_rows_alone_says_that_nothing_of_it_is_kept(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.csv", b"prompt\nHow are you, Head?\n")
    text = ann.get(answer.headers["location"]).text
    assert "No row could be kept." in text
    assert "The good rows are in" not in text
    assert "put a text with the separator in it in quotes" in text


def test_one_prompt_is_added_archived_and_used_again(portal: Portal, ann: Caller) -> None:
    assert ann.post("/p/tone/prompts/new", {"prompt": "How?", "system": "Be brief."}).status_code == 303
    empty = ann.post("/p/tone/prompts/new", {"prompt": " ", "system": "kept"})
    assert (empty.status_code, "Write a prompt first." in empty.text, "kept" in empty.text) == (422, True, True)
    with portal.db() as db:
        prompt = db.scalars(select(Prompt)).one()
    assert prompt.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]
    assert "How?" in ann.get("/p/tone/prompts").text
    ann.post(f"/p/tone/prompts/{prompt.id}/archive")
    assert "How?" not in ann.get("/p/tone/prompts").text
    assert "How?" in ann.get("/p/tone/prompts?show=archived").text
    ann.post(f"/p/tone/prompts/{prompt.id}/unarchive")
    table = ann.get("/p/tone/prompts?search=how", headers={"HX-Request": "true"}).text
    assert "How?" in table
    assert "<html" not in table


def test_prompts_are_text_and_never_markup(portal: Portal, ann: Caller) -> None:
    ann.post("/p/tone/prompts/new", {"prompt": "<script>alert(1)</script><b hx-get=/x>"})
    text = ann.get("/p/tone/prompts").text
    assert "<script>alert" not in text
    assert "&lt;b hx-get" in text
