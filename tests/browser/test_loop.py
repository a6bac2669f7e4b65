"""The loop, end to end, as people see it: `hone up --demo`, a reviewer's keys, an admin's round, the next pairs.

Everything is real and of this test's own: Postgres, Redis, the engine with the demo model, the worker, the trainer, the
web server, Chromium. The second test kills the web server, the worker and the trainer with SIGKILL in mid-round.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from app.local import stack
from app.local.postgres_files import remove_files
from app.local.process import STACK_MARK, marked
from tests.browser.comparing import acknowledged
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.chaos, pytest.mark.timeout(600)]
READY_SECONDS = 150.0
ROUND_SECONDS = 180.0
VOTES = 12


@dataclass
class Demo:
    """A running demo installation and the logins it printed."""

    data: Path
    process: subprocess.Popen[bytes]
    url: str
    passwords: dict[str, str]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask its database."""
        running = stack.running(self.data)
        assert running is not None
        with psycopg.connect(running.database_url.replace("+psycopg", "")) as connection:
            return connection.execute(query, values).fetchall()

    def child(self, name: str) -> int:
        """Process id of a part."""
        running = stack.running(self.data)
        assert running is not None
        return running.children[name]

    def trainer(self) -> psutil.Process | None:
        """The trainer, if one runs."""
        for process in marked(STACK_MARK, str(self.data)):
            try:
                if "worker.trainer" in process.cmdline():
                    return process
            except psutil.NoSuchProcess:
                continue
        return None


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """`hone up --demo` on an empty data directory; stopped as by Ctrl-C, which must leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    data, output = folder / "data", folder / "output.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--demo", "--data", str(data), "--port", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"COLUMNS": "200"},
        )
    try:
        until(lambda: (found := stack.running(data)) is not None and found.ready, READY_SECONDS, output.read_text)
        running = stack.running(data)
        assert running is not None
        said = output.read_text()
        passwords = dict(re.findall(r"(admin|reviewer)@hone\.example +password +(\S+)", said))
        assert set(passwords) == {"admin", "reviewer"}, said
        yield Demo(data, process, running.url, passwords)
        process.send_signal(signal.SIGINT)
        assert process.wait(150) == 0, output.read_text()
        assert marked(STACK_MARK, str(data)) == [], "Ctrl-C left processes behind"
    finally:
        for left in [process, *marked(STACK_MARK, str(data))]:
            if left.poll() is None if isinstance(left, subprocess.Popen) else left.is_running():
                left.kill()
        remove_files(data)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def person(browser: Browser, demo: Demo) -> Iterator[Callable[[str], Page]]:
    """``person("admin")``: a browser in which they have signed in through the form."""
    contexts = []

    def sign_in(role: str) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{demo.url}/login")
        page.get_by_label("Email").fill(f"{role}@hone.example")
        page.get_by_label("Password").fill(demo.passwords[role])
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)
        return page

    yield sign_in
    for context in contexts:
        context.close()


def vote_by_keyboard(page: Page, demo: Demo, count: int) -> None:
    """Choose A or B by key, the shorter answer each time, and wait until each is acknowledged."""
    for _ in range(count):
        expect(page.get_by_role("heading", name="Which answer is better?")).to_be_visible()
        lease = page.locator("#ballot input[name=lease]").input_value()
        answers = page.locator(".answer")
        shorter = "a" if len(answers.nth(0).inner_text()) <= len(answers.nth(1).inner_text()) else "b"
        page.wait_for_timeout(400)  # a key pressed in the instant after a swap is not taken for a choice
        page.keyboard.press(shorter)
        expect(page.locator(f"#ballot input[name=lease][value='{lease}']")).to_have_count(0)
        acknowledged(page)


def counted(demo: Demo) -> int:
    """Votes in the database."""
    return int(demo.rows("select count(*) from votes where choice in ('a', 'b', 'tie', 'both_bad')")[0][0])


def start_round(admin: Page, demo: Demo) -> int:
    """Start a round from its page; its number."""
    admin.goto(f"{demo.url}/p/demo/rounds")
    admin.get_by_role("button", name="Start a round").click()
    expect(admin.get_by_role("heading", name=re.compile(r"^Round \d+$"))).to_be_visible()
    return int(admin.url.rsplit("/", 1)[1])


def see_it_finish(admin: Page) -> None:
    """Watch the round's page, which follows by itself, to the end."""
    expect(admin.get_by_role("link", name=re.compile(r"^To version \d+$"))).to_be_visible(timeout=ROUND_SECONDS * 1000)


def promote(admin: Page, demo: Demo, number: int) -> None:
    """Make a version the current one, from the versions page."""
    admin.goto(f"{demo.url}/p/demo/versions")
    card = admin.locator(f"#version-{number}")
    card.locator("summary", has_text="Promote").click()
    card.get_by_role("button", name=f"Promote version {number}").click()
    expect(admin.locator(f"#version-{number}").get_by_text("current", exact=True)).to_be_visible()


def test_votes_train_a_version_from_which_the_next_pair_comes(demo: Demo, person: Callable[[str], Page]) -> None:
    reviewer = person("reviewer")
    reviewer.goto(f"{demo.url}/p/demo/compare")
    while demo.rows("select count(*) from votes v join assignments a on a.id = v.assignment_id join comparisons c"
                    " on c.id = a.comparison_id join prompts p on p.id = c.prompt_id where not p.held_out"
                    )[0][0] < VOTES:  # fmt: skip
        vote_by_keyboard(reviewer, demo, 1)
    admin = person("admin")
    assert start_round(admin, demo) == 1
    see_it_finish(admin)
    promote(admin, demo, 2)

    until(
        lambda: demo.rows("select 1 from comparisons c join completions x on x.id = c.completion_a_id join versions v"
                          " on v.id = x.version_id where v.number = 2 and c.state = 'open'"),
        60,
    )  # fmt: skip
    reviewer.reload()
    vote_by_keyboard(reviewer, demo, 2)  # the first may be a pair that was in hand when the version changed
    lease = reviewer.locator("#ballot input[name=lease]").input_value()
    sampled_by = demo.rows(
        "select distinct v.number from assignments a join comparisons c on c.id = a.comparison_id join completions x"
        " on x.id in (c.completion_a_id, c.completion_b_id) join versions v on v.id = x.version_id where a.id = %s",
        lease,
    )
    assert sampled_by == [(2,)]


def test_killing_web_worker_and_trainer_loses_no_vote_and_the_round_still_ends(
    demo: Demo, person: Callable[[str], Page]
) -> None:
    reviewer, admin = person("reviewer"), person("admin")
    reviewer.goto(f"{demo.url}/p/demo/compare")
    vote_by_keyboard(reviewer, demo, VOTES + 4)
    before = counted(demo)
    number = start_round(admin, demo)
    until(demo.trainer, 60)

    trainer = demo.trainer()
    assert trainer is not None
    worker, web = demo.child("worker"), demo.child("web")
    os.kill(worker, signal.SIGKILL)
    trainer.kill()
    os.kill(web, signal.SIGKILL)

    # A choice made while nothing answers is kept by the page, and arrives once when the server is back.
    reviewer.wait_for_timeout(400)
    lease = reviewer.locator("#ballot input[name=lease]").input_value()
    reviewer.keyboard.press("a")
    acknowledged(reviewer, seconds=90)
    assert demo.rows("select count(*) from votes where assignment_id = %s", lease) == [(1,)]
    assert demo.child("web") != web
    assert demo.child("worker") != worker

    until(
        lambda: demo.rows("select state from rounds where number = %s", number)[0][0] == "done",
        ROUND_SECONDS,
        lambda: str(demo.rows("select kind, to_state, data from round_events order by at desc limit 12")),
    )
    assert counted(demo) == before + 1
    admin.goto(f"{demo.url}/p/demo/rounds/{number}")
    see_it_finish(admin)
