"""Whoever gets an error in place of a page of a project still has that project's tabs, if they may see it."""

import re

import pytest

from app.db.base import utcnow
from app.db.session import make_engine, make_session_factory, transaction
from app.db.tables import Project
from app.settings import Settings
from tests.fixtures.portal import Portal

NOWHERE = "00000000-0000-4000-8000-000000000000"


def tabs(page: str) -> list[str]:
    """The addresses of the project's tabs."""
    nav = re.search(r'<nav class="tabs".*?</nav>', page, re.DOTALL)
    return re.findall(r'href="([^"]+)"', nav[0]) if nav else []


@pytest.mark.parametrize(
    ("path", "status"),
    [("nothing", 404), ("rounds/99", 404), (f"reviewers/{NOWHERE}", 404), ("reviewers/somebody", 422)],
)
def test_an_address_with_nothing_at_it_has_the_tabs_of_its_project(portal: Portal, path: str, status: int) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    page = portal.browser(ann).get(f"/p/tone/{path}")
    assert page.status_code == status
    assert {"/p/tone", "/p/tone/compare", "/p/tone/settings"} <= set(tabs(page.text))


def test_a_reviewer_who_may_not_see_a_page_has_the_tabs_of_reviewers(portal: Portal) -> None:
    project = portal.project("Tone", portal.user("ann@example.org"))
    bo = portal.browser(portal.member(project, "bo@example.org"))
    page = bo.get("/p/tone/settings")
    assert page.status_code == 403
    assert tabs(page.text) == ["/p/tone", "/p/tone/compare", "/p/tone/answers", "/p/tone/playground"]
    assert f'value="{bo.csrf}"' in page.text, "signing out works from there"


def test_strangers_learn_of_no_project_from_an_error(portal: Portal) -> None:
    portal.project("Tone", portal.user("ann@example.org"))
    own = portal.project("Own", portal.user("cleo@example.org"))
    stranger = portal.browser(portal.member(own, "bo@example.org"))
    for slug in ("tone", "none-such"):
        page = stranger.get(f"/p/{slug}/nothing")
        assert page.status_code == 404
        assert tabs(page.text) == []
        assert "/p/own" in page.text, "their own projects are there to go on to"
        assert "Tone" not in page.text
    nobody = stranger.client
    nobody.cookies.clear()
    assert tabs(nobody.get("/p/tone/nothing").text) == []


def test_an_error_in_an_archived_project_says_that_it_is_archived(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    with transaction(portal.factory) as db:
        db.query(Project).update({"archived_at": utcnow()})
    page = portal.browser(ann).get("/p/tone/nothing").text
    assert "has been archived since" in page
    assert "/p/tone/settings#archive" in page


def test_an_error_is_told_without_the_database_too(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    browser = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    away = make_engine(Settings(database_url="postgresql+psycopg://nobody@127.0.0.1:1/none"))
    portal.app.state.session_factory = make_session_factory(away)
    page = browser.get("/nothing")
    away.dispose()
    assert page.status_code == 404
    assert "There is nothing at this address." in page.text
    assert "has no way on" in caplog.text
