"""An admin settles contradictions with the keys that reviewers have: blind, and with a note that stays."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db.tables import Adjudication, Comparison, User
from app.preferences.contradictions import side_for
from tests.browser.comparing import open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.factories.rows import make_member, make_vote

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
LOOKS: list[dict[str, Any]] = [
    {"viewport": DESKTOP},
    {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
]


def contested_shop(server: LiveServer) -> User:
    """Three pairs on which two reviewers contradict each other, and an admin."""
    shop = open_shop(server, pairs=3, slots=2, reviewing={"scale": "strength"})
    with server.db() as db:
        for pair in (db.get_one(Comparison, id_) for id_ in shop.comparisons):
            make_vote(db, pair, choice="a", strength=1, comment="A says it in four words.")
            make_vote(db, pair, choice="b", strength=3, slot=1)
        return make_member(db, db.merge(shop.project), role="admin")


def keys_work(page: Page) -> None:
    """Wait for the script of the page that was just opened: it shows the button of the list of keys."""
    expect(page.locator("[data-key=help]")).to_be_visible()


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_contradictions_are_settled_one_after_the_other(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck, context_options: dict[str, Any]
) -> None:
    admin = contested_shop(server)
    touch = "has_touch" in context_options
    sign_in(admin)
    page.goto(f"{server.url}/p/kitchen/preferences/contradictions")
    axe(page)
    page.get_by_role("link", name="Start", exact=True).click()
    expect(page.locator(".pair-head")).to_contain_text("1 of 3 that wait")
    expect(page.locator(".words")).to_have_count(0)
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == context_options["viewport"]["width"]
    if touch:
        page.locator("summary", has_text="Note").tap()
        page.locator("#comment").fill("A answers.")
        page.locator("[data-key=reveal]").tap()
    else:
        keys_work(page)
        page.keyboard.press("c")
        page.keyboard.type("A answers.")
        page.keyboard.press("Escape")
        page.keyboard.press("v")
    expect(page.locator(".words")).to_contain_text("A says it in four words.")
    expect(page.locator(".words li")).to_have_count(2)
    axe(page)
    if touch:
        page.locator(".choice[data-key=a3]").tap()
    else:
        keys_work(page)
        page.keyboard.press("1")  # the note that was typed before looking is still there
    expect(page.locator("#notices")).to_contain_text("Settled: A is much better.")
    expect(page.locator(".words")).to_have_count(0)
    with server.db() as db:
        (made,) = db.scalars(select(Adjudication)).all()
    assert (made.strength, made.note, made.saw_votes) == (3, "A answers.", True)
    assert made.outcome == side_for(made.comparison_id, admin.id)

    later = page.url
    if touch:
        page.locator("[data-key=later]").tap()
    else:
        keys_work(page)
        page.keyboard.press("s")
    expect(page).not_to_have_url(later)
    if touch:
        page.locator("[data-key=leave]").tap()
    else:
        keys_work(page)
        page.keyboard.press("l")
    expect(page.locator("#notices")).to_contain_text("Settled: Left as it is.")
    expect(page).to_have_url(later)
    if touch:
        page.locator("[data-key=undo]").tap()
    else:
        keys_work(page)
        page.keyboard.press("u")
    expect(page.locator(".settled")).to_contain_text("Left as it is")
    axe(page)
    page.locator("summary", has_text="Withdraw the decision").click()
    page.get_by_role("button", name="Withdraw", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("Withdrawn.")
    expect(page.locator("#ballot")).to_be_visible()
    page.goto(f"{server.url}/p/kitchen/preferences/contradictions/decided")
    expect(page.locator("li.judged")).to_have_count(2)
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == context_options["viewport"]["width"]
