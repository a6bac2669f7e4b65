"""The raw ASGI layers: caps, origins, headers, the log, and what happens after a commit."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.types import Message

from app import logs
from app.web import errors
from app.web.after_commit import AfterCommit
from app.web.limits import BodyCap, Caps, SameOrigin
from app.web.logs import RequestLog
from app.web.security import SecurityHeaders
from tests import aside


async def _ask(app: Any, *, headers: Iterable[tuple[str, str]] = (), chunks: Iterable[bytes] = ()) -> list[Message]:
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    await app({"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""}, receive, send)
    return sent


def reading(seen: list[int]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def capped(seen: list[int], *, known: bool = True, patience: float = 5.0) -> BodyCap:
    """A cap of 100,000 bytes for files, of 25,000 for JSON."""

    async def knows(_request: Request) -> bool:
        return known

    return BodyCap(reading(seen), caps=Caps(files=100_000, chat=10), knows=knows, patience_seconds=patience)


FORM = ("content-type", "multipart/form-data; boundary=x")


def test_a_declared_length_over_the_cap_is_refused_unread() -> None:
    seen: list[int] = []
    with pytest.raises(Exception, match="is the limit") as refused:
        aside.run(_ask(capped(seen), headers=[FORM, ("content-length", "100001")], chunks=[b"x"]))
    assert refused.value.status == 413  # type: ignore[attr-defined]
    assert seen == []


def test_an_undeclared_length_is_counted_and_reading_stops() -> None:
    seen: list[int] = []
    with pytest.raises(Exception, match="413"):
        aside.run(_ask(capped(seen), headers=[FORM], chunks=[b"x" * 60_000] * 3))
    assert seen == [60_000]


def test_a_lie_about_the_length_does_not_help() -> None:
    with pytest.raises(Exception, match="413"):
        aside.run(_ask(capped([]), headers=[FORM, ("content-length", "5")], chunks=[b"x" * 100_001]))


def test_a_body_at_the_cap_passes() -> None:
    seen: list[int] = []
    aside.run(_ask(capped(seen), headers=[FORM, ("content-length", "100000")], chunks=[b"x" * 100_000]))
    assert seen == [100_000]


def test_json_which_is_parsed_in_one_go_has_a_quarter() -> None:
    seen: list[int] = []
    aside.run(_ask(capped(seen), headers=[("content-length", "25000")], chunks=[b"x" * 25_000]))
    assert seen == [25_000]
    with pytest.raises(Exception, match=r"25,001 bytes or more; 25,000 bytes is the limit"):
        aside.run(_ask(capped(seen), headers=[("content-length", "25001")], chunks=[b"x" * 25_001]))


@pytest.mark.parametrize("declared", [True, False])
def test_strangers_may_send_a_form_and_little_more(declared: bool) -> None:
    for size, passes in ((64 * 1024, True), (64 * 1024 + 1, False)):
        seen: list[int] = []
        headers = [FORM, ("content-length", str(size))] if declared else [FORM]
        if passes:
            aside.run(_ask(capped(seen, known=False), headers=headers, chunks=[b"x" * size]))
            assert seen == [size]
        else:
            with pytest.raises(Exception, match=r"413|not signed in"):
                aside.run(_ask(capped(seen, known=False), headers=headers, chunks=[b"x" * size]))
            assert seen == []


def test_a_body_that_stands_still_is_waited_for_no_longer() -> None:
    async def silent() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def ask() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
        await capped([], patience=0.05)(scope, silent, lambda _message: asyncio.sleep(0))

    with pytest.raises(Exception, match="408"):
        aside.run(ask())


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://hone.example"}, False),
        ({"origin": "http://hone.example"}, True),
        ({"origin": "http://hone.example:81"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://front.example", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_where_a_write_may_come_from(headers: dict[str, str], passes: bool) -> None:
    app = SameOrigin(reading([]), trusted_origins=["https://front.example/"], secure=False)
    request = _ask(app, headers=[("host", "hone.example"), *headers.items()])
    if passes:
        assert aside.run(request)[0]["status"] == 200
    else:
        with pytest.raises(Exception, match="not from hone"):
            aside.run(request)


def test_with_tls_a_plain_origin_is_foreign() -> None:
    app = SameOrigin(reading([]), trusted_origins=[], secure=True)
    with pytest.raises(Exception, match="not from"):
        aside.run(_ask(app, headers=[("host", "hone.example"), ("origin", "http://hone.example")]))


def test_hsts_only_with_tls_and_a_nonce_of_its_own_for_each_answer() -> None:
    def headers(secure: bool) -> dict[bytes, bytes]:
        return dict(aside.run(_ask(SecurityHeaders(reading([]), secure=secure)))[0]["headers"])

    assert b"strict-transport-security" in headers(True)
    assert b"strict-transport-security" not in headers(False)
    assert headers(True)[b"content-security-policy"] != headers(True)[b"content-security-policy"]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO, logger="hone.request")
    caplog.handler.addFilter(logs.About())
    yield caplog
    caplog.handler.filters.clear()


def test_the_log_holds_templates_and_no_personal_data(logged: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.get("/p/{slug}/people/{email}")
    def page(slug: str, email: str, request: Request) -> str:
        return slug + email + str(request.state.request_id)

    app.add_middleware(RequestLog)
    answer = TestClient(app).get(
        "/p/secret-project/people/ada@example.org?q=word", headers={"X-Request-ID": "abc-12345"}
    )
    assert answer.headers["x-request-id"] == "abc-12345"
    (record,) = logged.records
    line = logs.JsonLines().format(record)
    shown = json.loads(line)
    assert (shown["method"], shown["route"], shown["status"]) == ("GET", "/p/{slug}/people/{email}", 200)
    assert shown["ms"] >= 0
    assert shown["request_id"] == "abc-12345"
    for private in ("ada", "secret-project", "word"):
        assert private not in line
        assert private not in record.getMessage()


def test_a_request_id_from_outside_is_no_way_into_the_log(logged: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.add_middleware(RequestLog)
    answer = TestClient(app).get("/x", headers={"X-Request-ID": "a b\tc{evil}"})
    assert len(answer.headers["x-request-id"]) == 16
    assert "evil" not in logs.JsonLines().format(logged.records[0])


@pytest.mark.parametrize("shape", [logs.TextLines(), logs.JsonLines()], ids=["text", "json"])
def test_the_id_that_people_are_asked_for_is_on_every_line_of_their_request(
    logged: pytest.LogCaptureFixture, shape: logging.Formatter
) -> None:
    app = FastAPI()

    @app.get("/api/v1/broken")
    def page() -> None:
        logging.getLogger("some.room").warning("about to fail")
        raise RuntimeError("of ours")

    app.add_middleware(errors.ErrorBoundary)
    app.add_middleware(RequestLog)
    answer = TestClient(app).get("/api/v1/broken")
    lines = [shape.format(record) for record in logged.records if record.name != "httpx"]
    assert len(lines) == 3
    assert [line for line in lines if answer.json()["request_id"] not in line.splitlines()[0]] == []


def test_after_commit_never_waits_and_does_all_that_was_asked() -> None:
    release, runs = threading.Event(), []

    def work() -> None:
        runs.append(time.monotonic())
        release.wait(5)

    after = AfterCommit(work)
    began = time.monotonic()
    for _ in range(20):
        after()
    assert time.monotonic() - began < 0.5
    release.set()
    after.close()
    assert 1 <= len(runs) <= 3


def test_after_commit_survives_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []
    done = threading.Event()

    def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("broker away")
        done.set()

    after = AfterCommit(work)
    after()
    while "broker away" not in caplog.text:
        time.sleep(0.01)
    after()
    assert done.wait(5)
    after.close()
