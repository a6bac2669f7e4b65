"""What a project may ask beside the choice: by keyboard alone, by touch, and kept while it is half written."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import select

from app.db.tables import Completion, User, Vote
from tests.browser.comparing import acknowledged, on_pair, open_shop, ready_ahead
from tests.browser.conftest import PHONE
from tests.browser.server import LiveServer
from tests.factories.rows import make_prompt, make_ranking

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
TOUCH: dict[str, Any] = {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
CRITERIA = [{"key": "helpful", "label": "Helpful"}, {"key": "clear", "label": "Clear", "scale": "likert"}]
EVERYTHING: dict[str, Any] = {
    "scale": "strength",
    "criteria": CRITERIA,
    "criteria_required": True,
    "tags": ["Kinder", "More exact"],
    "comment": "required",
    "comment_min_chars": 8,
    "correction": True,
    "skip_reason": "required",
}


def test_everything_that_can_be_asked_is_answered_with_the_keyboard(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck
) -> None:
    shop = open_shop(server, reviewing=EVERYTHING)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("1")  # much better, but the criteria are not judged
    expect(page.get_by_role("alert")).to_have_text("Helpful, Clear are not judged yet.")
    assert page.evaluate("document.activeElement.name") == "criterion-helpful"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("c")
    page.keyboard.type("it names the window")
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    expect(page.get_by_label("Answer A as it should have been")).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type("And a lamp.")
    page.keyboard.press("Escape")
    axe(page)
    page.keyboard.press("7")  # the other one: the correction of A does not go with it
    expect(page.get_by_role("alert")).to_contain_text("You corrected A, but did not choose it.")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    on_pair(page, 2)
    expect(page.locator(".last")).to_contain_text("A is much better")
    page.keyboard.press("w")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    on_pair(page, 3)
    assert shop.votes() == [("a", "left"), ("skip", "skip")]
    assert shop.column("strength") == [3, None]
    assert shop.column("criteria") == [{"helpful": "tie", "clear": {"a": 4, "b": 1}}, {}]
    assert shop.column("tags") == [["Kinder"], []]
    assert shop.column("comment") == ["it names the window", None]
    assert shop.column("reason") == [None, "unclear"]
    corrected = shop.column("corrected")
    assert str(corrected[0]).startswith("Left of 1.")
    assert str(corrected[0]).endswith("And a lamp.")
    page.goto(f"{server.url}/p/kitchen/answers")
    expect(page.locator(".mine > li").nth(1)).to_contain_text("A is much better")
    expect(page.locator(".mine > li").nth(1)).to_contain_text("A 4, B 1")
    page.get_by_role("link", name="Change this answer").nth(1).click()
    on_pair(page, 1)
    expect(page.locator("#comment")).to_have_value("it names the window")
    expect(page.get_by_label("Kinder")).to_be_checked()
    page.keyboard.press("x")
    expect(page.get_by_role("alert")).to_contain_text("You corrected A")
    page.get_by_role("button", name="Discard my correction").click()
    expect(page.locator("#problem")).to_be_hidden()
    page.wait_for_timeout(400)
    page.keyboard.press("x")  # nothing stands in the way, and nothing was taken back
    acknowledged(page)
    expect(page.locator(".last")).to_contain_text("Both bad")
    assert shop.column("corrected")[-1] is None


def test_a_mark_that_is_not_needed_is_taken_back_and_half_a_rating_is_told_before_it_is_sent(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck
) -> None:
    shop = open_shop(server, reviewing={"criteria": CRITERIA})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    helpful, clear = page.locator(".criterion").all()
    helpful.get_by_text("A", exact=True).click()
    clear.get_by_text("3", exact=True).first.click()
    axe(page)
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    expect(page.get_by_role("alert")).to_have_text("Clear: give both answers points, or clear those you gave.")
    assert page.evaluate("document.activeElement.name") == "criterion-clear-b"
    assert shop.votes() == []
    clear.get_by_text("Clear", exact=True).nth(1).click()
    helpful.locator("input[value=a]").focus()
    page.keyboard.press("Backspace")
    expect(page.locator(".criterion input:checked:not([value=''])")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    on_pair(page, 2)
    assert shop.column("criteria") == [{}]


@pytest.mark.parametrize("context_options", [TOUCH])
def test_everything_that_can_be_asked_is_answered_by_touch(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck
) -> None:
    shop = open_shop(server, pairs=2, reviewing=EVERYTHING)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.locator(".segments label").first.tap()
    for group in page.get_by_role("radiogroup").all():
        group.locator("label").nth(2).tap()
    page.locator(".chip-check").nth(1).tap()
    page.locator("#comment").fill("short words")
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    button = page.locator("button[value='b:1']")
    assert button.bounding_box()["height"] >= 44
    button.tap()
    on_pair(page, 2)
    assert shop.column("strength") == [1]
    assert shop.column("tags") == [["More exact"]]
    assert shop.column("criteria") == [{"helpful": "a", "clear": {"a": 3, "b": 3}}]


def open_ranking(server: LiveServer, **asks: Any) -> Any:
    shop = open_shop(server, pairs=1, reviewing={"mode": "ranking", "answers": 4} | asks)
    with server.db() as db:
        for number in (2, 3):
            prompt = make_prompt(db, shop.project, text=f"Question {number}: rank these")
            texts = tuple(f"Answer {letter} of {number}" for letter in "abcd")
            make_ranking(db, shop.project, prompt=prompt, texts=texts)
    return shop


def test_answers_are_ranked_with_the_keyboard(server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck) -> None:
    shop = open_ranking(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("a")  # a pair among rankings is judged as a pair
    on_pair(page, 2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Put these answers in order")
    for key in ("3", "1", "2"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("D has no place yet")
    page.keyboard.press("=")  # on the chip that was pressed last
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#announce")).to_contain_text("B: second, tied with A")
    page.keyboard.press("4")
    page.locator(".chip[data-item='3']").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#announce")).to_contain_text("D: second")
    page.keyboard.press("ArrowRight")
    axe(page)
    page.locator(".pair-title").focus()
    page.keyboard.press("Enter")
    on_pair(page, 3)
    assert shop.column("ranking") == [None, [[2], [0, 1], [3]]]
    page.keyboard.press("u")
    on_pair(page, 2)
    expect(page.locator(".tier")).to_have_count(3)  # the order is there again
    page.keyboard.press("4")
    page.keyboard.press("=")
    page.get_by_role("button", name="Save this order").click()
    on_pair(page, 3)
    assert shop.column("ranking")[-1] == [[2], [0, 1, 3]]


@pytest.mark.parametrize("context_options", [TOUCH])
def test_answers_are_ranked_by_touch_and_dragged(
    server: LiveServer, context: BrowserContext, page: Page, sign_in: SignIn
) -> None:
    shop = open_ranking(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.get_by_role("button", name="Tie").tap()
    on_pair(page, 2)
    for item in (1, 0, 3, 2):
        page.locator(f".chip[data-item='{item}']").tap()
    expect(page.locator(".tier")).to_have_count(4)
    page.locator(".board").scroll_into_view_if_needed()
    drag(context, page, ".chip[data-item='2']", ".tier[data-tier='0']")
    expect(page.locator(".tier")).to_have_count(3)
    expect(page.locator(".tier").first.locator(".chip")).to_have_count(2)
    page.wait_for_timeout(500)  # a tap right after a lifted finger is the second half of a double tap
    page.get_by_role("button", name="Save this order").tap()
    on_pair(page, 3)
    assert shop.column("ranking")[-1] == [[1, 2], [0], [3]]


def drag(context: BrowserContext, page: Page, what: str, onto: str) -> None:
    """A finger on the middle of one element, taken to the middle of another."""
    start, end = (page.locator(selector).bounding_box() for selector in (what, onto))
    points = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in (start, end)]
    devtools = context.new_cdp_session(page)
    for step in range(11):
        x, y = (a + (b - a) * step / 10 for a, b in zip(*points, strict=True))
        kind = "touchStart" if step == 0 else "touchMove"
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize("context_options", [{"viewport": PHONE, "java_script_enabled": False}])
def test_ranking_and_criteria_are_plain_forms_without_javascript(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_ranking(server, correction=True, tags=["Kinder"])
    sign_in(shop.reviewer)
    page.goto(shop.url)
    page.get_by_label("Kinder").check(force=True)
    page.get_by_role("button", name="A is better").click()
    expect(page.locator(".talk")).to_contain_text("Question 2:")
    for field, place in zip(page.locator("select[name^=place-]").all(), "2213", strict=True):
        field.select_option(place)
    page.get_by_text("Correct C").click()
    page.get_by_label("Answer C as it should have been").fill("Answer c of 2, mended")
    page.get_by_role("button", name="Save this order").click()
    expect(page.locator(".talk")).to_contain_text("Question 3:")
    assert shop.column("ranking") == [None, [[2], [0, 1], [3]]]
    assert shop.column("corrected") == [None, "Answer c of 2, mended"]
    assert shop.column("tags") == [["Kinder"], []]


def test_what_is_half_written_outlives_the_page_and_goes_with_the_choice(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, reviewing={"correction": True, "criteria": CRITERIA})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("c")
    page.keyboard.type("half a thou")
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    page.get_by_label("Answer A as it should have been").fill("Mended.")
    page.locator(".segments label").nth(2).click()
    page.reload()
    on_pair(page, 1)
    expect(page.locator("#comment")).to_have_value("half a thou")
    expect(page.get_by_label("Answer A as it should have been")).to_have_value("Mended.")
    expect(page.locator("input[name=criterion-helpful][value=b]")).to_be_checked()
    page.locator(".pair-title").focus()
    page.keyboard.press("a")
    on_pair(page, 2)
    expect(page.locator("#comment")).to_have_value("")
    assert shop.column("comment") == ["half a thou"]
    assert shop.column("corrected") == ["Mended."]
    assert page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('hone:draft:')).length") == 0


def test_a_correction_comes_back_in_sight_with_its_pair(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """After Undo from what this browser kept, after Change from what the server stored."""
    shop = open_shop(server, reviewing={"correction": True})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("q")
    page.locator("#corrected-0").fill("Mended.")
    page.keyboard.press("Escape")
    page.locator("button[data-key=a]").click()
    on_pair(page, 2)
    expect(page.locator("#corrected-0")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    on_pair(page, 1)
    expect(page.locator("#corrected-0")).to_be_visible()
    expect(page.locator("#corrected-0")).to_have_value("Mended.")
    expect(page.locator("#corrected-1")).to_be_hidden()
    page.locator("button[data-key=a]").click()
    on_pair(page, 2)
    with server.db() as db:
        lease = db.scalars(select(Vote.assignment_id).limit(1)).one()
    page.goto(f"{shop.url}?again={lease}")
    on_pair(page, 1)
    expect(page.locator("#corrected-0")).to_be_visible()
    expect(page.locator("#corrected-0")).to_have_value("Mended.")


def test_a_refused_choice_brings_its_pair_back_with_what_was_written(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    from app.db.tables import Project

    expected_errors.append("422")
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    ready_ahead(page)
    with server.db() as db:  # an admin changes what is asked while the page stands open
        db.query(Project).update({"reviewing": {"comment": "required", "comment_min_chars": 30}})
    page.keyboard.press("c")
    page.keyboard.type("too short")
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    expect(page.locator("#notices")).to_contain_text("Write at least 30")
    on_pair(page, 1)
    expect(page.locator("#comment")).to_have_value("too short")
    page.locator("#comment").fill("long enough to say something about both")
    page.locator(".pair-title").focus()
    page.keyboard.press("b")
    acknowledged(page)
    on_pair(page, 2)
    expect(page.locator("#notices")).to_be_empty()
    assert shop.votes() == [("b", "right")]


def test_a_note_that_is_too_short_is_told_where_it_is(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, reviewing={"comment": "optional", "comment_min_chars": 20})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("c")
    page.keyboard.type("abc")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.get_by_role("alert")).to_have_text("The comment has 3 characters. Write at least 20.")
    expect(page.locator("#comment")).to_be_focused()
    page.keyboard.type(", and more than that")
    expect(page.locator("#problem")).to_be_hidden()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    on_pair(page, 2)
    assert shop.column("comment") == ["abc, and more than that"]


def test_a_required_comment_is_asked_for_by_name(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, reviewing={"comment": "required", "comment_min_chars": 8})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.get_by_role("button", name="A is better").click()
    expect(page.get_by_role("alert")).to_contain_text("This project asks for a comment.")
    expect(page.locator("#comment")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("s")  # passing it on asks for nothing
    on_pair(page, 2)
    assert shop.votes() == [("skip", "skip")]


def test_a_correction_that_is_too_long_is_told_where_it_is(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, reviewing={"correction": True})
    with server.db() as db:
        db.query(Completion).update({"text": "long " * 10_001})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("q")
    field = page.get_by_label("Answer A as it should have been")
    expect(field).to_be_focused()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    page.keyboard.press("a")
    expect(page.get_by_role("alert")).to_contain_text("at most 50000 are allowed; shorten it")
    expect(field).to_be_focused()
    field.fill("Short.")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    on_pair(page, 2)
    assert shop.column("corrected") == ["Short."]


def test_a_number_pressed_in_a_row_of_marks_is_a_mark(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, reviewing={"criteria": CRITERIA[1:]})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("k")
    page.keyboard.press("4")
    expect(page.locator("input[name=criterion-clear-a][value='4']")).to_be_focused()
    expect(page.locator("input[name=criterion-clear-a][value='4']")).to_be_checked()
    page.keyboard.press("7")  # no mark, and no choice
    page.keyboard.press("Tab")
    page.keyboard.press("2")
    expect(page.locator("input[name=criterion-clear-b][value='2']")).to_be_checked()
    expect(page.locator(".talk")).to_contain_text("Question 1:")
    assert shop.votes() == []
    page.keyboard.press("a")
    on_pair(page, 2)
    assert shop.votes() == [("a", "left")]
    assert shop.column("criteria") == [{"clear": {"a": 4, "b": 2}}]
