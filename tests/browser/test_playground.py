"""The playground in a browser, with a real engine: streaming, blind until the choice, going on, failing by halves."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import select

from app.db.tables import Assignment, Comparison, Completion, PlaygroundTurn, Prompt, User, Version, Vote
from tests.browser.conftest import DESKTOP, PHONE
from tests.fixtures.talking import Talking
from tests.waiting import until

SignIn = Callable[[User], None]
OpenTalk = Callable[..., Talking]
LONG = {"max_tokens": 200, "temperature": 1.0}


@pytest.fixture
def server(talk: Talking) -> Any:
    """The stack that talks, for the fixtures that expect a server."""
    return talk.server


@pytest.fixture
def talk(open_talk: OpenTalk) -> Talking:
    made = open_talk(sampling=LONG)
    made.add_version()
    return made


def open_page(page: Page, talk: Talking, sign_in: SignIn) -> str:
    sign_in(talk.reviewer)
    url = f"{talk.server.url}/p/demo/playground"
    page.goto(url)
    return url


def ask(page: Page, text: str) -> None:
    """By keyboard: into the field, and off."""
    page.locator("#text").focus()
    page.keyboard.type(text)
    page.keyboard.press("Control+Enter")


def rows(talk: Talking, table: type) -> list[Any]:
    with talk.server.db() as db:
        return list(db.scalars(select(table).order_by(table.id)))


def has_ended(page: Page) -> None:
    expect(page.locator("#stage")).to_have_attribute("data-state", "done", timeout=60_000)


def test_two_blind_answers_are_written_and_a_choice_reveals_and_counts(
    talk: Talking, page: Page, sign_in: SignIn
) -> None:
    said: list[tuple[str, str]] = []
    page.on("response", lambda answer: said.append((answer.url, str(answer.headers))))
    open_page(page, talk, sign_in)
    ask(page, "How do I keep basil alive?")
    for side in ("a", "b"):
        expect(page.locator(f"[data-side={side}] [data-text]")).not_to_be_empty(timeout=60_000)
    has_ended(page)
    turn = rows(talk, PlaygroundTurn)[0]
    secret = {str(talk.engine.demo), str(talk.engine.other)}
    told = page.content() + str(said)
    assert not any(name in told for name in secret), "ids of versions are nowhere"
    assert not re.search(r"version \d", page.locator("main").inner_text(), re.IGNORECASE)
    assert rows(talk, Vote) == rows(talk, Prompt) == [], "nobody has chosen yet"
    shown = {side: page.locator(f"[data-side={side}] [data-text]").inner_text().strip() for side in ("a", "b")}
    left, right = (page.locator(f".answer[data-side={side}]").bounding_box() for side in ("a", "b"))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"], "the answers stand side by side"
    assert left["x"] + left["width"] < right["x"]
    page.wait_for_timeout(400)
    page.keyboard.press("b")
    expect(page.locator("#revealed")).to_have_text("You chose: B is better")
    numbers = {str(talk.engine.demo): "version 1 (current)", str(talk.engine.other): "version 2 (candidate)"}
    expect(page.locator(".wrote dd").nth(0)).to_have_text(numbers[str(turn.left_version_id)])
    expect(page.locator(".wrote dd").nth(1)).to_have_text(numbers[str(turn.right_version_id)])
    assert {turn.left_version_id, turn.right_version_id} == {talk.engine.demo, talk.engine.other}

    (prompt,), (comparison,), (vote,) = rows(talk, Prompt), rows(talk, Comparison), rows(talk, Vote)
    (assignment,) = rows(talk, Assignment)
    assert (prompt.source, prompt.messages) == (
        "playground", [{"role": "user", "content": "How do I keep basil alive?"}])  # fmt: skip
    assert (comparison.state, comparison.strategy, comparison.kind) == ("complete", "playground", "candidate")
    assert (vote.choice, vote.shown_choice, vote.source, assignment.state) == ("b", "right", "web", "voted")
    assert (assignment.left_side, assignment.reviewer_id) == ("a", talk.reviewer.id)
    assert vote.seconds is not None
    with talk.server.db() as db:
        first = db.get_one(Completion, comparison.completion_a_id)
        second = db.get_one(Completion, comparison.completion_b_id)
    assert (first.version_id, second.version_id) == (turn.left_version_id, turn.right_version_id)
    assert first.ids != second.ids
    for completion, text in ((first, shown["a"]), (second, shown["b"])):
        assert completion.text.split()[0] in text
        assert completion.sampling["max_tokens"] == LONG["max_tokens"]
    page.reload()
    expect(page.locator("#revealed")).to_have_text("You chose: B is better")


def test_a_choice_may_come_before_the_answers_end_and_the_conversation_goes_on(
    talk: Talking, page: Page, sign_in: SignIn
) -> None:
    open_page(page, talk, sign_in)
    ask(page, "Tell me everything about bread, step by step.")
    expect(page.locator("[data-ballot]")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(400)
    page.keyboard.press("a")
    expect(page.locator("#revealed")).to_have_text("You chose: A is better", timeout=30_000)
    has_ended(page)
    (vote,) = rows(talk, Vote)
    assert (vote.choice, vote.shown_choice) == ("a", "left")
    first = rows(talk, PlaygroundTurn)[0]
    expect(page.locator(":focus")).to_have_id("revealed")
    ask(page, "And with rye?")
    expect(page.locator(".talk")).to_contain_text("And with rye?")
    has_ended(page)
    second = rows(talk, PlaygroundTurn)[1]
    assert second.parent_id == first.id
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1]["content"] == first.answers["a"]["text"].strip()
    page.wait_for_timeout(400)
    page.keyboard.press("t")
    expect(page.locator("#revealed")).to_have_text("You chose: Tie")
    assert [vote.choice for vote in rows(talk, Vote)] == ["a", "tie"]
    expect(page.get_by_role("radio", name="answer B")).to_be_visible()  # after a tie one says which answer goes on


def test_leaving_after_a_choice_still_makes_it_a_vote_and_leaving_before_ends_the_sampling(
    talk: Talking, page: Page, sign_in: SignIn
) -> None:
    url = open_page(page, talk, sign_in)
    ask(page, "A question that is left.")
    expect(page.locator("[data-ballot]")).to_be_visible(timeout=60_000)
    page.goto(url)
    until(lambda: rows(talk, PlaygroundTurn)[0].state == "left")
    ask(page, "A question that is answered.")
    expect(page.locator("[data-ballot]")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(400)
    page.keyboard.press("a")
    expect(page.locator("#revealed")).to_be_visible()
    page.goto(url)
    until(lambda: rows(talk, PlaygroundTurn)[1].state == "done")
    assert [vote.choice for vote in rows(talk, Vote)] == ["a"]


def test_each_side_fails_on_its_own(talk: Talking, page: Page, sign_in: SignIn) -> None:
    with talk.server.db() as db:  # a version that the engine cannot load: its files are not there
        db.query(Version).filter(Version.number == 2).update({"state": "rejected"})
        from tests.factories.rows import make_version

        make_version(db, talk.project, number=3, state="candidate")
    open_page(page, talk, sign_in)
    ask(page, "Who is there?")
    cut = page.locator("[data-cut]:not([hidden])")
    expect(cut).to_have_count(1, timeout=60_000)
    expect(cut).to_contain_text("The other one is not affected.")
    expect(page.locator("#stage")).to_have_attribute("data-state", "failed", timeout=60_000)
    good = page.locator("[data-side]:not(:has([data-cut]:not([hidden]))) [data-text]")
    expect(good).not_to_be_empty()
    assert page.locator("[data-ballot]").count() == 0, "there are no two answers to choose between"
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    assert rows(talk, Vote) == []


HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    '<div id="stage" hx-get="/logout" data-hx-get="/logout" hx-trigger="load">x</div>**bold** [x](javascript:alert(1))'
)


def test_what_a_model_writes_is_harmless_while_it_is_written(
    open_talk: OpenTalk, page: Page, context: BrowserContext
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with spelling_engine(HOSTILE) as url:
        talk = open_talk(engine_url=url)
        context.add_cookies([talk.server.cookie(talk.reviewer)])  # type: ignore[list-item]
        page.goto(f"{talk.server.url}/p/demo/playground")
        ask(page, HOSTILE)
        expect(page.locator("[data-side=a] strong")).to_have_text("bold", timeout=60_000)
        expect(page.locator("[data-side=b] strong")).to_have_text("bold", timeout=60_000)
        has_ended(page)
    assert page.title().startswith("Playground")
    assert page.locator("[id=stage]").count() == 1
    assert page.locator("main :is(img, script, [onerror], [data-hx-get], [href^=javascript])").count() == 0
    assert all(url.startswith(talk.server.url) and "logout" not in url for url in asked)


@contextmanager
def spelling_engine(text: str) -> Iterator[str]:
    """An engine that writes ``text``, some letters at a time, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
            for number, piece in enumerate(pieces, start=1):
                choice = {"index": 0, "delta": {"content": piece}, "token_ids": [5]}
                choice |= {"finish_reason": "stop"} if number == len(pieces) else {}
                event = {"choices": [choice], "prompt_token_ids": [1]}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "context_options",
    [{"viewport": DESKTOP}, {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True}],
    ids=["light desk", "dark phone"],
)
def test_no_state_of_the_page_locks_anybody_out(
    talk: Talking, page: Page, sign_in: SignIn, axe: Callable[[Page], None]
) -> None:
    def fits() -> None:
        axe(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    open_page(page, talk, sign_in)
    fits()
    page.get_by_role("button", name="Ask").click()
    ask(page, "What grows on a sill?")
    expect(page.locator("[data-ballot]")).to_be_visible(timeout=60_000)
    fits()
    has_ended(page)
    page.get_by_role("button", name="Both bad").click()
    expect(page.locator("#revealed")).to_be_visible()
    fits()
