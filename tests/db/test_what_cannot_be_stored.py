"""A null character, half a character, a number past all columns: refused with words of ours wherever they arrive."""

import base64
import json
import logging

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.portal import Portal

NUL = "a\x00b"


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR, logger="hone.web")
    return caplog


def test_programs_are_told_what_was_wrong(portal: Portal, quiet: pytest.LogCaptureFixture) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    api = portal.token(ann)
    answers = [
        api.post("/api/v1/projects/%00/comparisons/next"),
        api.get("/api/v1/projects/tone/prompts", params={"search": NUL}),
        api.client.patch("/api/v1/projects/tone", json={"name": NUL}),
        api.client.patch("/api/v1/projects/tone", json={"sampling": {"stop": [NUL]}}),
        api.client.put("/api/v1/projects/tone/members", json={"email": NUL, "role": "reviewer"}),
    ]
    for answer in answers:
        assert answer.status_code == 422, (answer.request.url, answer.text)
        assert answer.json()["detail"]
        assert answer.json()["mend"]
    assert not quiet.records


def test_people_are_told_what_was_wrong(portal: Portal, quiet: pytest.LogCaptureFixture) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    browser = portal.browser(ann)
    answers = [
        browser.get("/p/%00"),
        browser.get("/p/tone/prompts", params={"search": NUL}),
        browser.post("/p/tone/members", {"email": NUL, "role": "reviewer"}),
    ]
    with TestClient(portal.app, raise_server_exceptions=False) as stranger:
        csrf = stranger.get("/login").text.split('name="csrf_token" value="')[1].split('"')[0]
        answers.append(stranger.post("/login", data={"email": NUL, "password": "x", "csrf_token": csrf}))
    for answer in answers:
        assert answer.status_code in (401, 404, 422), (answer.request.url, answer.status_code)
        assert "something went wrong on our side" not in answer.text.lower()
    assert not quiet.records


@pytest.mark.parametrize("field", ["better", "worse"])
def test_half_a_character_is_refused(portal: Portal, quiet: pytest.LogCaptureFixture, field: str) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    body = json.dumps({"prompt": "Hi", "better": "Hello", "worse": "What?"} | {field: "half \ud83d"})
    headers = {"Content-Type": "application/json"}
    answer = portal.token(ann).client.post("/api/v1/projects/tone/checks", content=body, headers=headers)
    assert (answer.status_code, "half a character" in answer.json()["detail"]) == (422, True)
    assert not quiet.records


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
def test_a_number_past_all_columns_is_refused(portal: Portal, quiet: pytest.LogCaptureFixture, number: int) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    answer = portal.token(ann).get("/api/v1/projects/tone/rounds", params={"cursor": number})
    assert (answer.status_code, "larger than any" in answer.json()["detail"]) == (422, True)
    assert portal.browser(ann).get("/p/tone/rounds", params={"cursor": number}).status_code == 422
    assert not quiet.records


def test_what_is_nested_too_deeply_is_read_as_nothing(portal: Portal, quiet: pytest.LogCaptureFixture) -> None:
    """Of what the browser keeps for us: a message's cookie, the marks of a form. And a body, which is refused."""
    deep = "[" * 20_000
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    browser = portal.browser(ann)
    assert browser.post("/p/tone/settings/queue", {"shown": deep, "gold_percent": "400"}).status_code == 422
    browser.client.cookies.set("hone_flash", base64.urlsafe_b64encode(deep.encode()).decode())
    assert browser.get("/account").status_code == 200
    headers = {"Content-Type": "application/json"}
    assert portal.token(ann).client.post("/api/v1/projects", content=deep, headers=headers).status_code == 400
    assert not quiet.records
