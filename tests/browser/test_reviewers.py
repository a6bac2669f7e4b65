"""Admins look after the quality of reviewing: figures, gold pairs, a quarantine and its end, what votes amount to."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from app.db.base import utcnow
from app.db.tables import Assignment, Comparison, ComparisonSlot, Project, User
from app.projects.service import create_project, set_member
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.browser.test_admin import to
from tests.factories import rows

SignIn = Callable[[User], None]
SLUG = "everyday-helper"
PAGES = (
    *("reviewers", "reviewers/work", "reviewers/{clicker}", "reviewers/{clicker}/answers"),
    *("checks", "preferences", "preferences/votes", "settings/queue", "settings/preferences"),
)

LABELS = """[...document.querySelectorAll('.stack td[data-label]')]
    .map(cell => getComputedStyle(cell, '::before').whiteSpace)"""


def crew(server: LiveServer) -> tuple[User, User]:
    """Three who judge, one of them always for the left; forty pairs of two versions, gold, a contradiction, a repeat
    of an old pair. The admin and the clicker."""
    chance = random.Random(3)
    with server.db() as db:
        ann = rows.make_user(db, email="ann@example.org", name="Ann", is_site_admin=True)
        project = create_project(db, name="Everyday helper", base_model="owner/model", created_by=ann.id)
        project.queue = {"gold_percent": 5, "repeat_percent": 5, "daily_goal": 20}
        people = [rows.make_user(db, email=f"{name.lower()}@example.org", name=name) for name in ("Bo", "Cleo", "Dan")]
        for person in people:
            set_member(db, project, person, "reviewer")
        old, new = rows.make_version(db, project, number=1), rows.make_version(db, project, number=2, state="candidate")
        for number in range(40):
            pair = rows.make_comparison(db, project, versions=(new, old), slots=3, first_left=chance.choice("ab"))
            left = pair.first_left
            said = [chance.choices("ab", (4, 1))[0] for _ in range(2)]
            for slot, (who, choice) in enumerate(zip(people, (*said, left), strict=True)):
                at = utcnow() - timedelta(days=60 - number)
                rows.make_vote(db, pair, reviewer=who, slot=min(2, slot), choice=choice, created_at=at)
        _repeat(db, project, pair, people[0])
        rows.make_control(db, project)
        rows.make_control(db, project, kind="attention").retired_at = utcnow()
        return ann, people[2]


def _repeat(db, project: Project, pair: Comparison, who: User) -> None:
    again = Comparison(
        project_id=project.id,
        prompt_id=pair.prompt_id,
        completion_a_id=pair.completion_a_id,
        completion_b_id=pair.completion_b_id,
        first_left="b",
        purpose="repeat",
        for_reviewer_id=who.id,
        source_id=pair.id,
    )
    db.add(again)
    db.flush()
    db.add(ComparisonSlot(comparison_id=again.id, slot=0, project_id=project.id, queue_key=float("inf")))
    db.flush()
    rows.make_vote(db, again, reviewer=who, choice="b")


@pytest.mark.parametrize(
    "context_options",
    [{"viewport": DESKTOP}, {"viewport": PHONE, "color_scheme": "dark"}],
    ids=["desktop, light", "phone, dark"],
)
def test_the_pages_of_quality_are_accessible_and_fit(
    server: LiveServer, page: Page, sign_in: SignIn, axe: Callable[[Page], None]
) -> None:
    ann, clicker = crew(server)
    with server.db() as db:  # known by an address without a place to break at
        email = f"{'clicker.of.the.left' * 3}@reviewing.example.org"
        db.query(User).filter_by(id=clicker.id).update({"name": "", "email": email})
    sign_in(ann)
    for path in PAGES:
        page.goto(f"{server.url}/p/{SLUG}/{path.format(clicker=clicker.id)}")
        page.evaluate("document.querySelectorAll('main details:not(.confirm)').forEach(e => { e.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], f"{path} is {width} px wide"  # type: ignore[index]
        if page.viewport_size == PHONE:
            wraps = page.evaluate(LABELS)
            assert "nowrap" not in wraps, f"labels of {path} run over what they name"
        axe(page)
    with server.db() as db:
        db.query(User).filter_by(id=clicker.id).update({"name": "Donaudampfschifffahrt" * 4})
    for path in ("reviewers", "members"):
        page.goto(f"{server.url}/p/{SLUG}/{path}")
        assert page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.querySelector('.table-wrap'))") == 0
    page.locator(".confirm > summary").first.click()
    panel = page.locator(".confirm[open] .confirm-panel").bounding_box()
    assert panel is not None
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= page.viewport_size["width"]  # type: ignore[index]
    with server.db() as db:
        db.query(Project).update({"name": "Kundendienst" * 9})
    page.goto(f"{server.url}/?all=1")
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]  # type: ignore[index]


def test_a_reviewer_is_put_in_quarantine_and_released_by_keyboard(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    ann, clicker = crew(server)
    sign_in(ann)
    page.goto(f"{server.url}/p/{SLUG}/reviewers")
    line = page.get_by_role("row").filter(has_text="Dan")
    expect(line).to_contain_text("40 of 40 preferences are for the answer on the left")
    to(page, "Dan")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dan")).to_be_visible()
    to(page, "Quarantine")
    page.keyboard.press("Enter")
    to(page, "Why")
    page.keyboard.type("clicks left")
    page.keyboard.press("Enter")
    expect(page.get_by_text("40 unread votes are set aside")).to_be_visible()
    with server.db() as db:
        assert db.query(Assignment).filter_by(reviewer_id=clicker.id, state="set_aside").count() == 40
    to(page, "End the quarantine")
    page.keyboard.press("Enter")
    to(page, "Release")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Released. 40 unread votes count again")).to_be_visible()
    expect(page.get_by_role("heading", name="What was decided")).to_be_visible()
    with server.db() as db:
        assert db.query(Assignment).filter_by(reviewer_id=clicker.id, state="voted").count() == 40
