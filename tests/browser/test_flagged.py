"""An admin decides about flagged pairs and sets what reviewers are asked: by keyboard, by touch, without violations."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.comparisons.service import lease_next, record_vote
from app.db.tables import Comparison, Project, User
from tests.browser.comparing import Shop, open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.factories.rows import make_member

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
LOOKS: list[dict[str, Any]] = [
    {"viewport": DESKTOP},
    {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
]


def flagged_shop(server: LiveServer) -> tuple[Shop, User]:
    """Two flagged pairs, one that names its model, and an admin."""
    shop = open_shop(server, pairs=3)
    with server.db() as db:
        project = db.merge(shop.project)
        for _ in range(2):
            leased = lease_next(db, project=project, reviewer_id=shop.reviewer.id)
            assert leased is not None
            record_vote(
                db,
                reviewer_id=shop.reviewer.id,
                assignment_id=leased.assignment_id,
                choice="flag",
                reason="unsafe",
                comment="The second line.",
                source="web",
            )
        db.get_one(Comparison, shop.comparisons[2]).tells = "As version 3, I would"
        admin = make_member(db, project, role="admin")
    return shop, admin


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_flagged_pairs_are_put_back_or_taken_out(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck, context_options: dict[str, Any]
) -> None:
    _, admin = flagged_shop(server)
    sign_in(admin)
    page.goto(f"{server.url}/p/kitchen/flagged")
    expect(page.locator(".flagged > li")).to_have_count(2)
    page.get_by_text("Show the answers").first.click()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == context_options["viewport"]["width"]
    if "has_touch" in context_options:
        page.get_by_role("button", name="Put it back").first.tap()
        expect(page.locator("#notices")).to_contain_text("back in the queue")
        page.locator("summary", has_text="Take it out for good").first.tap()
        page.get_by_role("button", name="Take it out", exact=True).first.tap()
    else:
        page.get_by_role("button", name="Put it back").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#notices")).to_contain_text("back in the queue")
        page.locator("summary", has_text="Take it out for good").first.focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("out for good")
    expect(page.get_by_role("heading", name="Nothing is flagged")).to_be_visible()
    page.get_by_role("button", name="It gives nothing away").click()
    expect(page.get_by_text("As version 3")).to_have_count(0)
    axe(page)
    with server.db() as db:
        states = db.scalars(select(Comparison.state).order_by(Comparison.id)).all()
    assert sorted(states) == ["open", "open", "withdrawn"]


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_what_reviewers_are_asked_is_set_and_what_is_wrong_is_said(
    server: LiveServer,
    page: Page,
    sign_in: SignIn,
    axe: AxeCheck,
    context_options: dict[str, Any],
    expected_errors: list[str],
) -> None:
    expected_errors.append("422")
    shop, admin = flagged_shop(server)
    sign_in(admin)
    page.goto(f"{server.url}/p/kitchen/settings")
    page.get_by_role("link", name="What reviewers are asked").click()
    axe(page)
    page.get_by_label("Answers to a prompt").fill("9")
    page.get_by_label("Criterion 1").fill("Helpful")
    page.keyboard.press("Enter")
    expect(page.get_by_text("must be at most 8, not '9'")).to_be_visible()
    expect(page.get_by_label("Criterion 1")).to_have_value("Helpful")
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == context_options["viewport"]["width"]
    page.get_by_label("Answers to a prompt").fill("4")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("Saved.")
    with server.db() as db:
        stored = db.get_one(Project, shop.project.id).reviewing
    assert (stored["answers"], stored["criteria"]) == (
        4,
        [{"key": "helpful", "label": "Helpful", "scale": "preference"}],
    )
