"""Guidelines that change while somebody compares: told at once, marked where they differ, gone once they are read."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.db.tables import Project, User
from app.projects.service import update_project
from tests.browser.comparing import on_pair, open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer

LOOKS: list[dict[str, Any]] = [
    {"viewport": DESKTOP},
    {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
]


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_a_change_is_told_after_the_next_choice_and_gone_once_it_is_read(
    server: LiveServer, page: Page, sign_in: Callable[[User], None], axe: Callable[[Page], None]
) -> None:
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    with server.db() as db:
        changes = {"guidelines": "Right comes before *short*.", "reviewing": {"skip_reason": "required"}}
        update_project(db, db.get_one(Project, shop.project.id), **changes)
    page.keyboard.press("a")
    on_pair(page, 2)
    told = page.get_by_role("status").filter(has=page.locator(".news"))
    expect(told).to_contain_text("Guidelines or questions have just changed.")
    axe(page)
    told.get_by_role("link").click()
    on_pair(page, 2)
    expect(told).to_be_hidden()
    news = page.locator("#news")
    expect(news.locator("summary")).to_contain_text("The guidelines changed on")
    expect(page.locator("#guidelines")).to_contain_text("Right comes before short.")
    expect(news.locator("time")).not_to_contain_text("UTC")
    news.locator("summary").click()
    expect(news.locator("mark.differs")).to_have_text(["pretty", "short"])
    expect(news).to_contain_text("Required (before: Optional)")
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("b")
    on_pair(page, 3)
    expect(news.locator("mark.differs").first, "it stays while the pairs go by").to_be_visible()
    news.get_by_role("button", name="I have read it").click()
    expect(news).to_have_count(0)
    page.keyboard.press("t")
    on_pair(page, 4)
    page.reload()
    on_pair(page, 4)
    expect(news).to_have_count(0)
    expect(page.locator("#guidelines")).to_be_attached()
    assert [choice for choice, _ in shop.votes()] == ["a", "b", "tie"]
