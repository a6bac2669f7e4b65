"""Signing in and one's account in a real browser: by keyboard, on a phone, in the dark, offline, after an expired
sign-in; and what ``base.js`` adds to every page."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import delete

from app.accounts.service import create_token, create_user, set_active
from app.db.tables import User, UserSession
from tests.browser.conftest import DESKTOP, PHONE, type_sign_in
from tests.browser.server import LiveServer
from tests.factories import rows

PASSWORD = "correct horse battery"
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for screenshots, to be looked at by eye."""


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.fixture
def ada(server: LiveServer) -> User:
    with server.db() as db:
        for name in ("Grace Hopper", "", "Edsger"):
            person = rows.make_user(db, name=name)
        set_active(db, person, False)
        rows.make_project(db, slug="kitchen", name="Kitchen answers, polite and brief")
        rows.make_project(db, slug="travel", name="Travel")
        return create_user(db, email="ada@example.org", password=PASSWORD, name="Ada Lovelace", is_site_admin=True)


def come_in(page: Page, server: LiveServer, path: str) -> None:
    """Through the form, by keyboard alone."""
    page.goto(f"{server.url}/login?next={path}")
    type_sign_in(page, "ada@example.org", PASSWORD)
    page.wait_for_url(f"{server.url}{path}")


def upgrade_form(page: Page) -> None:
    """Let HTMX send the form for tokens, as it sends other forms."""
    page.evaluate(
        """() => {
            const form = document.querySelector('form[action="/account/tokens"]');
            form.setAttribute("hx-post", "/account/tokens");
            htmx.process(form);
        }"""
    )


LOOKS = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "has_touch": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}


@pytest.mark.parametrize("context_options", LOOKS.values(), ids=LOOKS.keys())
def test_every_page_is_readable_for_everybody(
    server: LiveServer,
    page: Page,
    ada: User,
    axe: Callable[[Page], None],
    context_options: dict[str, object],
    expected_errors: list[str],
) -> None:
    look = next(name for name, options in LOOKS.items() if options is context_options)
    expected_errors += ["401", "404", "409"]

    def check(name: str) -> None:
        axe(page)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
        shoot(page, f"{look}-{name}")

    page.goto(f"{server.url}/login?next=/account")
    check("login")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Password")).to_be_focused()
    check("login-wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/account")
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("Nightly export")
    page.get_by_label("export:read").check()
    check("account")
    page.get_by_role("button", name="Make the token").click()
    check("token")
    page.goto(f"{server.url}/admin/users")
    check("people")
    page.get_by_text("Deactivate", exact=True).first.click()
    check("people-confirm")
    page.locator("summary", has_text="Ada Lovelace").click()
    page.goto(f"{server.url}/p/kitchen/nothing")
    check("404")
    page.goto(f"{server.url}/api/docs")
    check("api")
    page.goto(f"{server.url}/p/kitchen")
    page.locator("summary", has_text="Kitchen answers").click()
    check("project-menu")


def test_a_persons_address_is_not_broken_by_what_can_be_done(server: LiveServer, page: Page, ada: User) -> None:
    """Four actions in a row used to leave the address the width of eight letters."""
    with server.db() as db:
        person = rows.make_user(db, email="reviewer@hone.example", is_site_admin=True)
        create_token(db, user=person, name="script", scopes=["votes:write"])
    come_in(page, server, "/admin/users")
    row = page.get_by_role("row").filter(has_text="reviewer@hone.example")
    expect(row.locator(".confirm > summary")).to_have_count(4)
    lines = """node => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return new Set([...range.getClientRects()].map(line => Math.round(line.top))).size;
    }"""
    assert row.get_by_text("reviewer@hone.example", exact=True).evaluate(lines) == 1


def test_menus_close_by_keyboard_and_give_the_focus_back(server: LiveServer, page: Page, ada: User) -> None:
    come_in(page, server, "/account")
    menu = page.locator("summary", has_text="Ada Lovelace")
    menu.focus()
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Account and tokens")
    expect(link).to_be_visible()
    page.keyboard.press("Tab")
    expect(link).to_be_focused()
    page.keyboard.press("Escape")
    expect(link).to_be_hidden()
    expect(menu).to_be_focused()


def test_the_first_tab_skips_to_the_content(server: LiveServer, page: Page, ada: User) -> None:
    come_in(page, server, "/account")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_token_is_copied(server: LiveServer, page: Page, context: BrowserContext, ada: User) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    come_in(page, server, "/account")
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("Nightly export")
    page.get_by_label("export:read").check()
    page.get_by_role("button", name="Make the token").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.get_by_label("Token", exact=True).input_value()


def test_an_error_lands_in_the_live_region_and_the_page_stays(
    server: LiveServer, page: Page, ada: User, expected_errors: list[str]
) -> None:
    expected_errors.append("404")
    come_in(page, server, "/account")
    page.evaluate("htmx.ajax('GET', '/p/nothing-here/compare', {target: 'main'})")
    notice = page.get_by_role("status").locator(".notice.bad")
    expect(notice).to_contain_text("There is no project")
    expect(page.get_by_role("heading", name="Account")).to_be_visible()
    notice.get_by_role("button", name="Dismiss").click()
    expect(notice).to_be_hidden()


def test_offline_nothing_is_lost(
    server: LiveServer, page: Page, context: BrowserContext, ada: User, expected_errors: list[str]
) -> None:
    expected_errors += ["ERR_INTERNET_DISCONNECTED", "htmx:"]
    come_in(page, server, "/account")
    upgrade_form(page)
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("Nightly export")
    context.set_offline(True)
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("status")).to_contain_text("The server cannot be reached. Nothing was lost")
    expect(page.get_by_label("What it is for")).to_have_value("Nightly export")
    context.set_offline(False)


def test_what_was_typed_survives_an_expired_sign_in(
    server: LiveServer, page: Page, ada: User, expected_errors: list[str]
) -> None:
    expected_errors += ["401", "Response Status Error Code 401"]
    come_in(page, server, "/account")
    upgrade_form(page)
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("Nightly export")
    page.get_by_label("Current password").fill("never-kept")
    with server.db() as db:
        db.execute(delete(UserSession))
    page.get_by_role("button", name="Make the token").click()
    page.wait_for_url(f"{server.url}/login?next=/account")
    expect(page.get_by_role("status")).to_contain_text("You were signed out in the meantime")
    type_sign_in(page, "ada@example.org", PASSWORD)
    page.wait_for_url(f"{server.url}/account")
    expect(page.get_by_label("What it is for")).to_have_value("Nightly export")
    expect(page.get_by_label("Current password")).to_have_value("")
    assert "never-kept" not in page.evaluate("JSON.stringify(sessionStorage)")


def test_times_are_shown_in_the_readers_zone(server: LiveServer, page: Page) -> None:
    page.goto(f"{server.url}/login")
    shown = page.evaluate(
        """() => {
            document.querySelector("main").innerHTML = '<time datetime="2026-11-23T12:00:00+00:00" data-local>x</time>';
            document.dispatchEvent(new CustomEvent("htmx:afterSettle", { detail: { elt: document.body } }));
            return document.querySelector("time").textContent;
        }"""
    )
    assert "2026" in shown


@pytest.mark.parametrize("context_options", [{"viewport": DESKTOP, "java_script_enabled": False}], ids=["no-js"])
def test_all_of_it_works_without_javascript(server: LiveServer, page: Page, ada: User) -> None:
    page.goto(f"{server.url}/login?next=/account")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("Nightly export")
    page.get_by_label("export:read").check()
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("heading", name="“Nightly export” is ready")).to_be_visible()
    page.get_by_text("Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("The token is revoked.")).to_be_visible()
    page.locator("summary", has_text="Ada Lovelace").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
