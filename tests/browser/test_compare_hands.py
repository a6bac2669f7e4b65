"""Reading, correcting and taking back by touch; guidelines, earlier turns and one's own answers by keyboard alone.

And what the queue says to a reviewer: too soon, the goal of the day, paused, not yet qualified.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.db.base import utcnow
from app.db.tables import Standing, User
from tests.browser.comparing import acknowledged, on_pair, open_shop
from tests.browser.conftest import PHONE
from tests.browser.server import LiveServer
from tests.browser.test_admin import to
from tests.factories.rows import make_comparison, make_prompt, make_ranking

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
TOUCH: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
LONG = "A sentence that says nothing new about basil. " * 60


def conversation(number: int) -> list[dict[str, str]]:
    """So long that what was said earlier is folded."""
    earlier = [
        ("user", "What grows on a sill?"),
        ("assistant", "Chives."),
        ("user", "And else?"),
        ("assistant", "Mint."),
    ]
    messages = [*earlier, ("user", f"Question {number}: and in the dark?")]
    return [{"role": role, "content": content} for role, content in messages]


@pytest.mark.parametrize("context_options", [TOUCH])
def test_answers_are_read_corrected_and_taken_back_by_touch(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=0, reviewing={"correction": True})
    with server.db() as db:
        for number in (1, 2):
            prompt = make_prompt(db, shop.project, messages=conversation(number))
            make_comparison(db, shop.project, prompt=prompt, texts=(f"**By day** {LONG}", f"*By night* {LONG}"))
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    left = page.locator("#answer-0")
    page.locator("#guidelines > summary").tap()
    expect(page.get_by_text("Right comes before")).to_be_hidden()
    page.get_by_text("Earlier in this conversation").tap()
    expect(page.get_by_text("Chives.")).to_be_visible()
    page.get_by_text("Earlier in this conversation").tap()
    folded = left.locator(".body").bounding_box()
    page.get_by_text("Whole answers").tap()
    whole = left.locator(".body").bounding_box()
    assert folded is not None
    assert whole is not None
    assert whole["height"] > folded["height"] + 100
    page.get_by_text("Whole answers").tap()
    page.locator("[data-look=diff]").tap()
    assert left.locator("mark").all_inner_texts() == ["day"]
    page.locator("[data-look=diff]").tap()
    page.get_by_text("As written").tap()
    expect(left.locator(".raw")).to_contain_text("**By day**")
    left.get_by_text("Correct A").tap()
    page.get_by_label("Answer A as it should have been").fill("In the dark nothing grows.")
    page.get_by_role("button", name="A is better").tap()
    on_pair(page, 2)
    page.get_by_role("button", name="B is better").tap()
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    acknowledged(page)
    page.get_by_role("link", name="My answers").last.tap()
    page.locator(".mine > li").last.get_by_text("Show the pair").tap()
    expect(page.locator(".mine > li").last).to_contain_text("In the dark nothing grows.")
    page.locator(".mine > li").last.get_by_role("button", name="Undo").tap()
    on_pair(page, 1)
    assert shop.column("shown_choice") == ["left", "right", "undone"]
    assert shop.column("corrected")[0] == "In the dark nothing grows."


@pytest.mark.parametrize("context_options", [TOUCH])
@pytest.mark.parametrize("mode", ["pair", "ranking"])
def test_below_a_short_answer_comes_what_is_next_on_a_phone(
    server: LiveServer, page: Page, sign_in: SignIn, mode: str
) -> None:
    shop = open_shop(server, pairs=0, reviewing={"mode": mode, "tags": ["Wrong"]})
    texts = ("Short.", LONG[:1500], LONG[:800])
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: how long?")
        if mode == "pair":
            make_comparison(db, shop.project, prompt=prompt, texts=(texts[0], texts[1]))
        else:
            make_ranking(db, shop.project, prompt=prompt, texts=texts)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    heights = []
    for place in range(2 if mode == "pair" else 3):
        page.locator(f"[data-page='{place}']").tap()
        expect(page.locator(f"[data-page='{place}']")).to_have_attribute("aria-current", "true")
        page.wait_for_timeout(300)
        row, answer = (page.locator(at).bounding_box() for at in (".answers", f"#answer-{place}"))
        assert row is not None
        assert answer is not None
        assert row["height"] - answer["height"] < 30
        said = page.locator(f"#answer-{place} .rendered").bounding_box()
        assert said is not None
        assert answer["height"] > said["height"]
        heights.append(answer["height"])
    assert heights[1] > heights[0] + 200


def test_guidelines_earlier_turns_and_own_answers_by_keyboard_alone(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        for number in (1, 2):
            prompt = make_prompt(db, shop.project, messages=conversation(number))
            make_comparison(db, shop.project, prompt=prompt)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    expect(page.get_by_text("Right comes before")).to_be_visible()  # open for whoever has judged nothing yet
    page.keyboard.press("g")
    expect(page.get_by_text("Right comes before")).to_be_hidden()
    to(page, "Earlier in this conversation")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Chives.")).to_be_visible()
    page.keyboard.press("b")
    on_pair(page, 2)
    page.keyboard.press("Home")
    to(page, "My answers")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("My answers")
    to(page, "Show the pair")
    page.keyboard.press("Enter")
    expect(page.locator(".mine .answer.chosen")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # Change
    on_pair(page, 1)
    page.keyboard.press("t")
    on_pair(page, 2)
    page.goto(f"{server.url}/p/kitchen/answers")
    to(page, "Undo")
    page.keyboard.press("Enter")
    on_pair(page, 1)
    assert shop.column("shown_choice") == ["right", "tie", "undone"]


def test_a_choice_that_comes_too_soon_says_so_and_the_goal_of_the_day_is_told(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=2, queue={"min_seconds": 3, "daily_goal": 1})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    expect(page.locator(".pair-head")).to_contain_text("0 of 1 today")
    expect(page.locator("body[data-kept='0']")).to_be_attached()
    page.keyboard.press("a")
    expect(page.get_by_role("alert")).to_contain_text("3 seconds")
    assert shop.votes() == []
    page.wait_for_timeout(3000)
    page.keyboard.press("a")
    on_pair(page, 2)
    expect(page.locator(".pair-head")).to_contain_text("1 of 1 today, goal reached")
    assert shop.votes() == [("a", "left")]


@pytest.mark.parametrize("context_options", [TOUCH | {"color_scheme": "dark"}])
def test_whoever_is_handed_nothing_is_told_why(server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck) -> None:
    shop = open_shop(server, pairs=1, queue={"qualification_pairs": 5})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Not ready for you yet")
    with server.db() as db:
        db.query(Standing).update({"qualification": "failed"})
    page.get_by_role("link", name="Look again").tap()
    expect(page.get_by_role("heading", level=1)).to_have_text("Thank you, that was the first part")
    with server.db() as db:
        db.query(Standing).update({"qualification": "waived", "paused_at": utcnow(), "paused_reason": "?"})
    page.get_by_role("link", name="Look again").tap()
    expect(page.get_by_role("heading", level=1)).to_have_text("Reviewing is paused for you")
    axe(page)
    with server.db() as db:
        db.query(Standing).update({"paused_at": None, "paused_reason": None})
    page.get_by_role("link", name="Look again").tap()
    on_pair(page, 1)
