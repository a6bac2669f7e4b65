"""Starting a round with a loss of its own, by keyboard, on a desk and on a phone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db.tables import Project, Round, User
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.browser.test_admin import admin, to
from tests.factories import rows


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desk", "phone"])
def context_options(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"viewport": request.param, "color_scheme": "dark" if request.param is PHONE else "light"}


def test_a_round_with_a_loss_of_its_own(
    server: LiveServer, page: Page, sign_in: Callable[[User], None], axe: Callable[[Page], None]
) -> None:
    sign_in(admin(server, project=True))
    with server.db() as db:
        project = db.scalars(select(Project)).one()
        project.min_round_votes = 2
        rows.make_version(db, project, number=1, state="current")
        for _ in range(2):
            rows.make_vote(db, rows.make_comparison(db, project))
    page.goto(f"{server.url}/p/tone/rounds")
    to(page, "With other settings")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Start a round with other settings")
    expect(page.get_by_text("The default: clear choices between sampled answers.")).to_be_visible()
    expect(page.get_by_label("Strength counts, times")).to_be_visible()
    to(page, "Loss")
    page.keyboard.type("KTO")
    expect(page.get_by_label("Loss")).to_have_value("kto")
    expect(page.get_by_text("Thumbs up or down on single answers")).to_be_visible()
    expect(page.get_by_text("The default: clear choices between sampled answers.")).to_be_hidden()
    # What KTO does not read is neither shown nor sent.
    expect(page.get_by_label("Strength counts, times")).to_be_hidden()
    expect(page.get_by_label("Weight of a pair")).to_be_hidden()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    to(page, "λ_U (bad answers)")
    page.keyboard.type("1.2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Round 1")
    with server.db() as db:
        settings = db.scalars(select(Round)).one().settings
        assert (settings["loss"], settings["loss_settings"]["undesirable_weight"]) == ("kto", 1.2)
        assert db.scalars(select(Project)).one().training["loss"] == "sigmoid"
