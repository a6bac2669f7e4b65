"""Comparing as people do it: by keyboard, by mouse, on a phone, without JavaScript."""

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from app.db.tables import User
from tests.browser.comparing import acknowledged, on_pair, open_shop
from tests.browser.conftest import DESKTOP, PHONE, type_sign_in
from tests.browser.server import LiveServer
from tests.factories.rows import make_member, make_prompt

SignIn = Callable[[User], None]


def test_from_the_sign_in_page_to_the_last_pair_with_nothing_but_the_keyboard(server: LiveServer, page: Page) -> None:
    shop = open_shop(server, pairs=5)
    with server.db() as db:
        from app.accounts.service import create_user

        walker = create_user(db, email="walker@example.org", password="a long walk by the sea")
        make_member(db, shop.project, user=walker)
    page.goto(shop.url)
    expect(page).to_have_url(f"{server.url}/login?next=/p/kitchen/compare")
    type_sign_in(page, "walker@example.org", "a long walk by the sea")
    for number, key in enumerate(("a", "2", "t", "ArrowLeft"), start=1):
        on_pair(page, number)
        page.keyboard.press(key)
    on_pair(page, 5)
    expect(page.locator(".pair-title")).to_be_focused()
    expect(page.locator("#announce")).to_contain_text("A is better. Next pair: Question 5:")
    page.keyboard.press("x")
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    assert [shown for _, shown in shop.votes()] == ["left", "right", "tie", "left", "both_bad"]


def test_undo_by_key_brings_the_pair_back_and_takes_the_new_choice(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("a")
    on_pair(page, 2)
    page.keyboard.press("u")
    on_pair(page, 1)
    expect(page.locator(".aside").first).to_have_text("Taken back. Choose again.")
    said = page.locator("#announce")
    expect(said).to_have_text("Taken back. Choose again. Question 1: how do I keep basil alive?")
    page.keyboard.press("b")
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["left", "undone", "right"]


def test_a_pair_that_was_judged_in_another_tab_keeps_that_choice(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("409")
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    other = page.context.new_page()
    other.goto(shop.url)
    on_pair(other, 1)
    page.keyboard.press("a")
    on_pair(page, 2)
    other.keyboard.press("b")
    expect(other.locator("#notices")).to_contain_text("You have judged this pair in another tab")
    on_pair(other, 2)
    assert shop.votes() == [("a", "left")]
    other.keyboard.press("b")
    on_pair(other, 3)
    expect(other.locator("#notices")).not_to_contain_text("another tab")
    assert shop.votes() == [("a", "left"), ("b", "right")]


def test_held_keys_double_presses_and_double_clicks_vote_once(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.get_by_role("button", name="A is better").dblclick()
    on_pair(page, 2)
    page.keyboard.down("b")
    page.keyboard.down("b")  # Playwright sends the second as a repeat, as a held key does
    page.keyboard.down("b")
    page.keyboard.up("b")
    on_pair(page, 3)
    page.evaluate(
        """() => {  // both in one turn: two calls may be far apart on a busy machine
            for (const type of ["keydown", "keyup", "keydown", "keyup"])
                document.activeElement.dispatchEvent(new KeyboardEvent(type, { key: "t", bubbles: true }));
        }"""
    )
    on_pair(page, 4)
    assert [shown for _, shown in shop.votes()] == ["left", "right", "tie"]


def test_keys_do_nothing_while_somebody_writes_and_can_be_switched_off(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("c")
    page.keyboard.type("a better bath, truly: 1 2 3")
    expect(page.get_by_label("A note with your choice")).to_have_value("a better bath, truly: 1 2 3")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+b")
    assert shop.votes() == []
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("b")
    page.get_by_label("Use single keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.reload()
    page.keyboard.press("b")
    page.wait_for_timeout(300)
    assert shop.votes() == []
    page.get_by_role("button", name="Keys and help").click()
    page.get_by_label("Use single keys").check()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["right"]


def test_letters_of_other_alphabets_do_what_the_latin_key_in_their_place_does(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=5)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    press_on_layout(page, "ف", "KeyT", ctrlKey=True)
    press_on_layout(page, "q", "KeyA")  # a French layout: a Latin letter means itself, and this pair has no edits
    page.wait_for_timeout(300)
    assert shop.votes() == []
    for number, (key, code) in enumerate((("ف", "KeyT"), ("لا", "KeyB"), ("ф", "KeyA"), ("٤", "Digit4")), start=1):
        on_pair(page, number)
        press_on_layout(page, key, code)
    on_pair(page, 5)
    assert [shown for _, shown in shop.votes()] == ["tie", "right", "left", "both_bad"]
    page.keyboard.press("?")
    page.locator("[data-rebind=a]").click()
    press_on_layout(page, "ف", "KeyT")
    expect(page.locator("[data-action=a] [data-keys]")).to_have_text("ف")
    page.keyboard.press("Escape")
    press_on_layout(page, "ف", "KeyT")  # somebody's own binding comes first
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    acknowledged(page)
    assert shop.votes()[-1][1] == "left"


def press_on_layout(page: Page, key: str, code: str, **modifiers: bool) -> None:
    """A key as it is on another layout than the American one, which is all that Playwright types on."""
    event = {"key": key, "code": code, "bubbles": True, "cancelable": True, **modifiers}
    page.evaluate("event => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', event))", event)


def test_a_note_a_flag_and_a_skip_are_stored_with_the_time_it_took(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.locator("summary[data-key=comment]").click()
    page.get_by_label("A note with your choice").fill("kinder")
    page.get_by_role("button", name="B is better").click()
    on_pair(page, 2)
    page.keyboard.press("f")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    on_pair(page, 3)
    page.keyboard.press("s")
    on_pair(page, 4)
    assert shop.column("shown_choice") == ["right", "flag", "skip"]
    assert shop.column("comment") == ["kinder", None, None]
    assert shop.column("reason") == [None, "personal_data", None]
    assert all(0.3 < seconds < 10 for seconds in shop.column("seconds"))


def test_a_hidden_tab_does_not_count_as_looking(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    began = time.monotonic()
    page.goto(shop.url)
    on_pair(page, 1)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(3000)
    page.evaluate(hide, False)
    page.keyboard.press("a")
    on_pair(page, 2)
    assert shop.column("seconds")[0] < time.monotonic() - began - 2.5


def test_the_page_goes_on_by_itself_when_pairs_are_ready(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=0)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing to answer yet")
    with server.db() as db:
        from tests.factories.rows import make_comparison

        prompt = make_prompt(db, shop.project, text="Question 1: what now?")
        make_comparison(db, shop.project, prompt=prompt)
    on_pair(page, 1)
    expect(page.locator("#announce")).to_contain_text("A new pair is ready")


def test_an_answer_is_looked_up_and_changed(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("a")
    on_pair(page, 2)
    page.get_by_role("link", name="My answers").click()
    page.get_by_role("link", name="Change this answer").click()
    on_pair(page, 1)
    expect(page.locator(".aside").first).to_have_text("You said: A is better. Choosing again changes it.")
    page.keyboard.press("b")
    on_pair(page, 2)
    expect(page).to_have_url(shop.url)
    page.goto(f"{server.url}/p/kitchen/answers")
    expect(page.locator(".mine > li")).to_have_count(1)
    expect(page.locator(".mine-said strong")).to_have_text("B is better")
    page.get_by_role("button", name="Undo").click()
    on_pair(page, 1)
    assert [shown for _, shown in shop.votes()] == ["left", "right", "undone"]


@pytest.mark.parametrize("context_options", [{"viewport": DESKTOP, "java_script_enabled": False}])
def test_without_javascript_the_choice_is_a_plain_form(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    expect(page.locator(".talk")).to_contain_text("Question 1:")
    page.get_by_role("button", name="B is better").click()
    expect(page.locator(".talk")).to_contain_text("Question 2:")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".talk")).to_contain_text("Question 1:")
    expect(page.get_by_text("Taken back. Choose again.")).to_be_visible()
    page.get_by_role("button", name="Tie").click()
    page.locator("summary[data-key=flag]").click()
    page.get_by_role("button", name="Broken or unreadable").click()
    expect(page.locator(".talk")).to_contain_text("Question 3:")
    assert [shown for _, shown in shop.votes()] == ["right", "undone", "tie", "flag"]


@pytest.mark.parametrize("context_options", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}])
def test_on_a_phone_the_choices_are_in_reach_and_nothing_is_wider_than_the_screen(
    server: LiveServer, context: BrowserContext, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    expect(page.locator(".talk")).to_contain_text("Question 1:")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.locator("#guidelines > summary").tap()
    left, right = page.locator(".answer").all()
    assert left.bounding_box()["width"] == right.bounding_box()["width"]
    expect(left).to_be_in_viewport()
    expect(right).not_to_be_in_viewport()
    start = left.locator("header").bounding_box()
    swipe(context, page, start["x"] + 250, start["y"] + 40, -220)
    expect(right.locator("h2")).to_be_in_viewport()
    expect(page.locator(".pager a[aria-current]")).to_contain_text("B")
    page.locator(".pager a").first.tap()
    expect(left.locator("h2")).to_be_in_viewport()
    for name in ("A is better", "Tie", "Both bad", "B is better", "Skip"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["y"] + box["height"] <= PHONE["height"], f"{name} is below the fold"
        assert box["height"] >= 44
    page.get_by_role("button", name="Both bad").tap()
    expect(page.locator(".talk")).to_contain_text("Question 2:")
    acknowledged(page)
    assert [shown for _, shown in shop.votes()] == ["both_bad"]


@pytest.mark.parametrize("context_options", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}])
def test_notes_skips_flags_undo_and_changes_work_by_touch(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.locator("summary[data-key=comment]").tap()
    page.get_by_label("A note with your choice").fill("kinder")
    page.get_by_role("button", name="A is better").tap()
    on_pair(page, 2)
    page.get_by_role("button", name="Undo").tap()
    on_pair(page, 1)
    page.get_by_role("button", name="B is better").tap()
    on_pair(page, 2)
    page.locator("summary[data-key=why]").tap()
    page.get_by_role("button", name="The question is unclear").tap()
    on_pair(page, 3)
    page.locator("summary[data-key=flag]").tap()
    page.get_by_role("button", name="Personal data").tap()
    on_pair(page, 4)
    page.get_by_role("link", name="My answers").tap()
    page.get_by_role("link", name="Change this answer").last.tap()
    on_pair(page, 1)
    page.get_by_role("button", name="Tie").tap()
    on_pair(page, 4)
    assert shop.column("shown_choice") == ["left", "undone", "right", "skip", "flag", "tie"]
    assert shop.column("reason") == [None, None, None, "unclear", "personal_data", None]
    assert shop.column("comment") == ["kinder", None, "kinder", None, None, "kinder"]


def swipe(context: BrowserContext, page: Page, x: float, y: float, by: float) -> None:
    """A finger put down at a point and moved to the side, as the browser gets it from a touch screen."""
    devtools = context.new_cdp_session(page)
    for step in range(11):
        kind = "touchStart" if step == 0 else "touchMove"
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x + by * step / 10, "y": y}]})
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_on_a_desk_the_answers_stand_side_by_side_in_equal_columns(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    left, right = (locator.bounding_box() for locator in page.locator(".answer").all())
    assert (left["width"], left["y"]) == (right["width"], right["y"])
    assert right["x"] > left["x"] + left["width"]
    assert page.locator(".answer strong").inner_text() == "light"
