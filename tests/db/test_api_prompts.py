"""Prompts through the API: batches, pages, and a clear word for every one that is refused."""

import io
from typing import Any

import pytest
from sqlalchemy import func, select
from tokenizers import Tokenizer, models, pre_tokenizers

from app.db.session import transaction
from app.db.tables import Project, Prompt
from app.versions.files import directory
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

URL = "/api/v1/projects/tone/prompts"


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """An admin of the project ``tone``."""
    user = portal.user("ann@example.org")
    portal.project("Tone", user)
    return portal.token(user)


def send(caller: Caller, *prompts: Any, **options: Any) -> Any:
    return caller.post(URL, json={"prompts": list(prompts)} | options)


def count(portal: Portal) -> int:
    with portal.db() as db:
        return db.scalar(select(func.count()).select_from(Prompt)) or 0


def test_a_batch_is_stored_once_however_often_it_is_sent(portal: Portal, ann: Caller) -> None:
    batch = [{"prompt": "One"}, {"messages": [{"role": "user", "content": "Two"}]}, {"prompt": "One \n"}]
    first = send(ann, *batch)
    assert first.status_code == 201
    assert (first.json()["created"], first.json()["existing"], first.json()["refused"]) == (2, 1, 0)
    assert [item["status"] for item in first.json()["results"]] == ["created", "created", "existing"]
    again = send(ann, *batch)
    assert again.status_code == 200
    assert (again.json()["created"], again.json()["existing"]) == (0, 3)
    assert [item["id"] for item in again.json()["results"]] == [item["id"] for item in first.json()["results"]]
    assert count(portal) == 2


def test_bad_prompts_are_told_apart_and_the_good_ones_kept(portal: Portal, ann: Caller) -> None:
    answer = send(
        ann,
        {"prompt": "Good"},
        {"prompt": ""},
        {"messages": [{"role": "assistant", "content": "Hi"}]},
        {"prompt": "a", "messages": []},
        {"prompt": "x" * 100_001},
        {"prompt": 5},
        {"prompt": "a", "id": 7},
        "Just a text",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    )
    assert answer.status_code == 201
    results = answer.json()["results"]
    assert [item["status"] for item in results] == ["created"] + ["refused"] * 8
    for item, says in zip(
        results[1:],
        [
            "is empty",
            "must end with a user's turn",
            "only one of them",
            "100,001 characters, at most 100,000",
            "the prompt must be a text, not a number",
            "'id' is not read here",
            "not a text",
            "message 1 must have a text as content, not a list",
        ],
        strict=True,
    ):
        assert says in item["error"]
    assert count(portal) == 1


def test_all_or_nothing_keeps_nothing(portal: Portal, ann: Caller) -> None:
    answer = send(ann, {"prompt": "Good"}, {"prompt": ""}, all_or_nothing=True)
    assert answer.status_code == 200
    assert [item["status"] for item in answer.json()["results"]] == ["dropped", "refused"]
    assert count(portal) == 0


def test_a_batch_has_between_1_and_1000_prompts(portal: Portal, ann: Caller) -> None:
    for prompts in ([], [{"prompt": str(number)} for number in range(1001)]):
        answer = send(ann, *prompts)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "prompts"
    assert send(ann, *({"prompt": str(number)} for number in range(1000))).json()["created"] == 1000


def test_an_oversized_body_is_413_with_both_numbers(portal: Portal, ann: Caller) -> None:
    answer = send(ann, *({"prompt": "x" * 1000 + str(number)} for number in range(1000)), {"prompt": "y" * 50_000})
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"
    assert "1.0 MiB" in answer.json()["detail"]
    assert count(portal) == 0


def test_pages_filters_and_single_prompts(portal: Portal, ann: Caller) -> None:
    send(ann, *({"prompt": f"prompt {number}"} for number in range(5)))
    first = ann.get(URL, params={"limit": 3}).json()
    rest = ann.get(URL, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    said = [item["messages"][0]["content"] for item in first["items"] + rest["items"]]
    assert said == [f"prompt {number}" for number in (4, 3, 2, 1, 0)]
    assert rest["next_cursor"] is None
    found = ann.get(URL, params={"search": "PROMPT 3"}).json()["items"]
    assert [item["messages"][0]["content"] for item in found] == ["prompt 3"]
    one = found[0]["id"]
    assert ann.get(f"{URL}/{one}").json() == found[0]
    assert ann.post(f"{URL}/{one}/archive").json()["archived_at"] is not None
    assert ann.get(URL, params={"show": "archived"}).json()["items"][0]["id"] == one
    assert ann.post(f"{URL}/{one}/unarchive").json()["archived_at"] is None
    assert ann.get(URL, params={"cursor": "nonsense"}).status_code == 422
    assert ann.get(URL, params={"show": "hidden"}).status_code == 422


def test_turns_are_read_as_the_chat_reads_them(portal: Portal, ann: Caller) -> None:
    parts = [{"type": "text", "text": "How are "}, {"type": "text", "text": "you?"}]
    turns = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    assert send(ann, {"messages": turns}).json()["created"] == 1
    assert ann.get(URL).json()["items"][0]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How are you?"},
    ]


def test_a_prompt_that_is_sent_again_says_that_it_is_archived(portal: Portal, ann: Caller) -> None:
    [first] = send(ann, {"prompt": "One"}).json()["results"]
    assert first["archived"] is False
    ann.post(f"{URL}/{first['id']}/archive")
    [again] = send(ann, {"prompt": "One"}).json()["results"]
    assert (again["status"], again["id"], again["archived"]) == ("existing", first["id"], True)


def test_a_source_that_is_none_is_refused(portal: Portal, ann: Caller) -> None:
    assert ann.get(URL, params={"source": "nope"}).status_code == 422
    assert ann.get(URL, params={"source": "playground"}).status_code == 200


def test_another_projects_prompts_do_not_exist(portal: Portal, ann: Caller) -> None:
    other = portal.user("bo@example.org")
    portal.project("Other", other)
    prompt = send(ann, {"prompt": "One"}).json()["results"][0]["id"]
    theirs = portal.token(other)
    assert theirs.get(URL).status_code == 404
    assert theirs.get(f"/api/v1/projects/other/prompts/{prompt}").status_code == 404
    assert theirs.post(f"/api/v1/projects/other/prompts/{prompt}/archive").status_code == 404


def test_a_token_needs_its_scope(portal: Portal) -> None:
    user = portal.user("ann@example.org")
    portal.project("Tone", user)
    reader = portal.token(user, "prompts:read")
    assert reader.get(URL).status_code == 200
    refused = send(reader, {"prompt": "One"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")


@pytest.fixture
def short_sighted(portal: Portal, ann: Caller) -> None:
    """A current version with a tokenizer of words, which reads at most 6 tokens, its answer included."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with transaction(portal.factory) as db:
        version = rows.make_version(db, db.scalars(select(Project)).one(), number=1, context_length=6)
    folder = directory(portal.settings.versions_dir, version.id)
    folder.mkdir(parents=True)
    words.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
    (folder / "chat_template.jinja").write_text(template)


@pytest.mark.usefixtures("short_sighted")
def test_prompts_longer_than_the_models_context_are_refused_with_both_numbers(portal: Portal, ann: Caller) -> None:
    # <user> a b c <assistant> are 5 tokens, which leaves one for the answer; with d there is none left
    answer = send(ann, {"prompt": "a b c"}, {"prompt": "a b c d"})
    assert [item["status"] for item in answer.json()["results"]] == ["created", "refused"]
    told = answer.json()["results"][1]["error"]
    assert "6 tokens with the chat template, and the model reads at most 6" in told
    browser = portal.browser(portal.member(stored(portal), "bo@example.org", "admin"))
    form = browser.post("/p/tone/prompts/new", {"prompt": "a b c d e"})
    assert form.status_code == 422
    assert "7 tokens with the chat template" in form.text
    file = io.BytesIO(b'{"prompt": "a"}\n{"prompt": "a b c d e f"}\n')
    uploaded = browser.post("/p/tone/prompts/upload", {"keep": "good"}, files={"file": ("a.jsonl", file)})
    page = browser.get(uploaded.headers["location"]).text
    assert "1 of 2 rows" in page
    assert "8 tokens with the chat template" in page
    assert count(portal) == 2


def stored(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project)).one()
