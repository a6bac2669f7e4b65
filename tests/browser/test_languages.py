"""German, and Arabic, which runs from right to left: pages fit, are accessible, and keys go where the answers are."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from app.db.tables import User
from tests.browser.admin_scene import life
from tests.browser.comparing import acknowledged, on_pair, open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer

SignIn = Callable[[User], None]
PAGES = ("", "/settings", "/rounds/2", "/versions", "/reviewers", "/compare")
DARK_PHONE = {"viewport": PHONE, "color_scheme": "dark"}


@pytest.mark.parametrize(
    ("context_options", "begins"),
    [
        ({"locale": "ar", "viewport": DESKTOP}, ("ar", "rtl")),
        ({"locale": "ar-EG", **DARK_PHONE}, ("ar", "rtl")),
        ({"locale": "de-AT", **DARK_PHONE}, ("de", "ltr")),
    ],
    ids=["Arabic, desktop", "Arabic, dark phone", "German, dark phone"],
)
def test_pages_are_accessible_and_fit_in_other_languages(
    server: LiveServer, page: Page, sign_in: SignIn, axe: Callable[[Page], None], begins: tuple[str, str]
) -> None:
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    for path in PAGES:
        page.goto(f"{server.url}/p/{scene.slug}{path}")
        assert (page.get_attribute("html", "lang"), page.get_attribute("html", "dir")) == begins
        page.evaluate("document.querySelectorAll('main details:not(.confirm)').forEach(e => { e.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], f"{path} is {width} px wide"  # type: ignore[index]
        axe(page)


def place(answer: Locator) -> float:
    box = answer.bounding_box()
    assert box is not None
    return box["x"]


@pytest.mark.parametrize("context_options", [{"locale": "ar", "viewport": DESKTOP}])
def test_pairs_are_judged_by_keyboard_from_right_to_left(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """A is the first answer in reading order, and 'left' in what is stored is its place, in every language."""
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    expect(page.get_by_role("heading", level=1)).to_have_text("أي الإجابتين أفضل؟")
    assert place(page.locator("#answer-0")) > place(page.locator("#answer-1")), "A stands on the right"
    assert place(page.locator(".choice[value=a]")) > place(page.locator(".choice[value=b]"))
    page.keyboard.press("ArrowRight")
    on_pair(page, 2)
    expect(page.locator("[data-last]")).to_have_text("A أفضل")
    page.keyboard.press("ArrowLeft")
    on_pair(page, 3)
    expect(page.locator("[data-last]")).to_have_text("B أفضل")
    page.keyboard.press("u")
    on_pair(page, 2)
    expect(page.locator(".aside").first).to_have_text("تم التراجع. اختر من جديد.")
    page.keyboard.press("ArrowRight")
    on_pair(page, 3)
    acknowledged(page)
    assert [vote for vote in shop.votes() if vote[1] != "undone"] == [("a", "left"), ("b", "right"), ("a", "left")]
    assert shop.column("mirrored") == [True] * 4
