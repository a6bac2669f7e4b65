"""Long forms of admins: what was typed survives an expired sign-in, is somebody's own, and goes once it is saved."""

from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import select

from app.db.tables import Project, User
from tests.browser.server import LiveServer
from tests.browser.test_admin import admin
from tests.factories import rows
from tests.waiting import until

SignIn = Callable[[User], None]
KEPT = "Object.keys(localStorage).filter((name) => name.startsWith('hone:form:'))"
NOTE = "Restored what you had typed."


def typed(page: Page, url: str, text: str) -> None:
    """Type guidelines and another setting, and wait until the browser has kept them."""
    page.goto(url)
    page.get_by_label("Guidelines for reviewers").fill(text)
    page.locator("summary", has_text="How pairs reach people.").click()
    page.get_by_label("Feedback of API clients").select_option("ignore")
    page.wait_for_timeout(400)  # it is kept a moment after the last key


def nothing_is_kept(page: Page) -> None:
    """Wait until the page's script has emptied the browser's store.

    From outside: Playwright's wait_for_function evaluates within the page, where its policy forbids that.
    """
    until(lambda: page.evaluate(KEPT) == [], what="an empty store of forms")


def stored(server: LiveServer) -> tuple[str, str]:
    with server.db() as db:
        project = db.scalars(select(Project)).one()
        return project.guidelines, project.feedback


def test_a_form_that_meets_an_expired_sign_in_is_there_again_after_it(
    server: LiveServer, page: Page, context: BrowserContext, sign_in: SignIn
) -> None:
    ann = admin(server, project=True)
    sign_in(ann)
    url = f"{server.url}/p/tone/settings"
    typed(page, url, "Be witty.")
    context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/login**")
    assert stored(server)[1] != "ignore"
    sign_in(ann)
    page.goto(url)
    expect(page.get_by_text(NOTE)).to_be_visible()
    expect(page.get_by_label("Guidelines for reviewers")).to_have_value("Be witty.")
    expect(page.get_by_label("Feedback of API clients")).to_have_value("ignore")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    assert stored(server) == ("Be witty.", "ignore")
    nothing_is_kept(page)
    page.goto(url)
    expect(page.get_by_text(NOTE)).to_have_count(0)


def test_what_is_restored_knows_what_somebody_else_has_changed_meanwhile(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("409")
    sign_in(admin(server, project=True))
    url = f"{server.url}/p/tone/settings"
    typed(page, url, "Be witty.")
    with server.db() as db:
        db.scalars(select(Project)).one().guidelines = "Be brief."
    page.goto(url)
    expect(page.get_by_label("Guidelines for reviewers")).to_have_value("Be witty.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Somebody else has changed the same settings meanwhile.")).to_be_visible()
    expect(page.get_by_label("Guidelines for reviewers")).to_have_value("Be witty.")
    expect(page.locator(".meanwhile")).to_contain_text("Be brief.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    assert stored(server) == ("Be witty.", "ignore")
    nothing_is_kept(page)


def test_it_can_be_discarded_and_is_nobody_elses(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    ann = admin(server, project=True)
    sign_in(ann)
    url = f"{server.url}/p/tone/settings"
    typed(page, url, "Be witty.")
    before = page.evaluate("document.querySelector('[name=guidelines]').defaultValue")
    page.goto(url)
    page.get_by_role("button", name="Discard it").click()
    expect(page.get_by_text(NOTE)).to_have_count(0)
    expect(page.get_by_label("Guidelines for reviewers")).to_have_value(before)
    nothing_is_kept(page)
    typed(page, url, "Be wittier.")
    with server.db() as db:
        bo = rows.make_user(db, email="bo@example.org", name="Bo", is_site_admin=True)
    sign_in(bo)
    page.goto(url)
    expect(page.get_by_label("Guidelines for reviewers")).to_have_value(before)
    nothing_is_kept(page)
