"""Browser tests: a headless Chromium for the whole run, a server and a fresh profile for each test.

- ``server``: the product on a database of this test's own (``server.db()`` to lay rows, ``server.url``).
- ``context``: a browser profile; errors on the page and in the console fail the test.
- ``page``: a page in it.
- ``sign_in(user)``: puts a session of ``user`` into the profile, without the detour over the form.
- ``axe(page)``: fails on any accessibility violation, and says which.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from app.db.tables import User
from tests.browser.ensure_chromium import installed
from tests.browser.server import LiveServer, serving

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}

expect.set_options(timeout=15_000)  # a busy machine takes its time; only what fails waits that long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the whole run."""
    program = installed()
    if program is None:
        pytest.fail("there is no Chromium; get one with `python -m tests.browser.ensure_chromium`")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def server(fresh_database: str, tmp_path: Path) -> Iterator[LiveServer]:
    """The product, served on an empty database."""
    with serving(fresh_database, tmp_path / "data") as made:
        yield made


@pytest.fixture
def context_options() -> dict[str, object]:
    """Options of the browser profile; override it, or parametrize it indirectly, for phones, dark, no JavaScript."""
    return {"viewport": DESKTOP}


@pytest.fixture
def expected_errors() -> list[str]:
    """Parts of console errors that the test provokes; append to it."""
    return []


@pytest.fixture
def context(
    browser: Browser, context_options: dict[str, object], expected_errors: list[str]
) -> Iterator[BrowserContext]:
    """A fresh profile. What goes wrong in a page's script or its console fails the test."""
    problems: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    made = browser.new_context(reduced_motion="reduce", **context_options)  # type: ignore[arg-type]
    made.set_default_timeout(30_000)
    made.on("console", console)
    made.on("weberror", lambda error: problems.append(str(error.error)))
    yield made
    made.close()
    unexpected = [line for line in problems if not any(part in line for part in expected_errors)]
    assert unexpected == [], f"the page complained: {unexpected}"


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page in the profile."""
    return context.new_page()


@pytest.fixture
def sign_in(context: BrowserContext, server: LiveServer) -> Callable[[User], None]:
    """Sign somebody in, as if they had come through the form."""

    def act(user: User) -> None:
        context.add_cookies([server.cookie(user)])  # type: ignore[list-item]

    return act


def type_sign_in(page: Page, email: str, password: str) -> None:
    """Fill in the sign-in form by keyboard alone, as somebody does who sees where the cursor stands."""
    expect(page.get_by_label("Email")).to_be_focused()  # the browser gives it the focus some time after loading
    page.keyboard.type(email)
    page.keyboard.press("Tab")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(password)
    page.keyboard.press("Enter")


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], None]:
    """``axe(page)``: no violation of accessibility rules, best practices included."""
    runner = Axe()

    def check(page: Page) -> None:
        result = runner.run(page)
        assert result.violations_count == 0, result.generate_report()

    return check
