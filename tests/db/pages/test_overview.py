"""The first page and a project's own: where they lead, how pairs are made, and the export."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.comparisons import refill_counts
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Project, Round, User, Version
from tests.db.pages.scene import ready, stored
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal


def test_the_first_page_leads_to_the_first_project(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    assert "Create the first project" in admin.get("/").text
    reviewer = portal.browser(portal.user("bo@example.org"))
    text = reviewer.get("/").text
    assert "Ask an admin to add you" in text
    assert "/projects/new" not in text


def test_who_has_one_project_goes_straight_there(portal: Portal, ann: Caller) -> None:
    assert ann.get("/").headers["location"] == "/p/tone"
    assert "/p/tone/compare" in ann.get("/?all=1").text


def test_an_admin_is_led_from_the_first_pairs_to_the_first_votes(portal: Portal, ann: Caller) -> None:
    ready(portal)
    with transaction(portal.factory) as db:
        rows.make_prompt(db, db.scalars(select(Project)).one())
    page = ann.get("/p/tone").text
    assert "Now compare answers" in page
    assert "from 2 votes on, a round can train the next version" in page
    assert page.index("Now compare answers") < page.index('href="/p/tone/compare">Start comparing')
    assert 'href="/p/tone/compare">Compare answers' in ann.get("/p/tone/rounds").text
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = db.scalars(select(Version)).one()
        for _ in range(2):
            rows.make_vote(db, rows.make_comparison(db, project, version=version))
    assert "Now compare answers" not in ann.get("/p/tone").text
    assert ">Compare answers" not in ann.get("/p/tone/rounds").text


@pytest.mark.parametrize(
    ("path", "tab"), [("/checks", "/reviewers"), ("/audit", "/settings"), ("/settings/queue", "/settings")]
)
def test_pages_within_others_show_where_they_belong(portal: Portal, ann: Caller, path: str, tab: str) -> None:
    head = ann.get(f"/p/tone{path}").text.split("<main", 1)[0]
    assert re.findall(r'<a href="([^"]+)" aria-current="page">', head) == [f"/p/tone{tab}"]


def test_a_failed_import_is_on_the_first_page_with_its_reason_and_a_button(portal: Portal, ann: Caller) -> None:
    assert "has not been imported" in ann.get("/p/tone").text
    assert ann.post("/p/tone/import").status_code == 303
    with transaction(portal.factory) as db:
        row = db.scalars(select(Round)).one()
        row.state, row.error = "failed", "owner/model was not found on the hub."
    page = ann.get("/p/tone").text
    assert "owner/model was not found on the hub." in page
    assert "Try again" in page
    assert ann.post("/p/tone/import").status_code == 303
    with portal.db() as db:
        assert [(row.number, row.state) for row in db.scalars(select(Round))] == [(0, "queued")]


def test_a_reviewer_finds_the_way_to_the_pairs_and_no_admin_matters(portal: Portal, ann: Caller) -> None:
    ready(portal)
    bo = portal.browser(portal.member(stored(portal), "bo@example.org"))
    page = bo.get("/p/tone").text
    assert "1 pair of answers waits for you" in page
    assert "one question with two answers" in page, "what a pair is, until the first vote"
    assert "Be <em>kind</em>" in page
    assert "/export" not in page
    assert "ersion 1" not in page
    with transaction(portal.factory) as db:
        db.scalars(select(Project)).one().reviewing = {"mode": "ranking", "answers": 4}
    assert "one question with two answers" not in bo.get("/p/tone").text
    for url in ("settings", "members", "prompts", "prompts/new", "rounds", "versions", "export"):
        assert bo.get(f"/p/tone/{url}").status_code == 403, url
    stranger = portal.browser(portal.user("eve@example.org"))
    for url in ("", "/settings", "/prompts", "/rounds/1", "/versions"):
        assert stranger.get(f"/p/tone{url}").status_code == 404, url


def test_the_export_is_json_lines(portal: Portal, ann: Caller) -> None:
    ready(portal, votes=2)
    answer = ann.get("/p/tone/export?format=trl")
    assert answer.headers["content-disposition"] == 'attachment; filename="tone-trl.jsonl"'
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert len(exported) == 2
    assert set(exported[0]) == {"prompt", "chosen", "rejected", "split", "adjudicated"}
    assert ann.get("/p/tone/export?format=trl&split=train").text == answer.text
    held_out = ann.get("/p/tone/export?format=arena&split=eval")
    assert (held_out.text, "tone-arena-eval.jsonl" in held_out.headers["content-disposition"]) == ("", True)
    assert ann.get("/p/tone/export?split=nope").status_code == 422
    assert ann.get("/p/tone/export?format=nope").status_code == 422
    assert '<option value="votes">' in ann.get("/p/tone").text
    raw = ann.get("/p/tone/export?format=votes")
    assert raw.headers["content-disposition"] == 'attachment; filename="tone-votes.jsonl"'
    assert [json.loads(line)["counts"] for line in raw.text.splitlines()] == [True, True]
    with portal.db() as db:
        program = portal.token(db.get_one(User, ann.user_id), "export:read")
    assert program.get("/api/v1/projects/tone/export", params={"format": "trl"}).text == answer.text
    assert program.get("/api/v1/projects/tone/export", params={"split": "eval"}).text == ""


def test_state_changes_need_the_forms_token(portal: Portal, ann: Caller, tmp_path: Path) -> None:
    for url in ("/projects/new", "/p/tone/settings", "/p/tone/rounds", "/p/tone/prompts/new", "/p/tone/members"):
        assert ann.client.post(url, data={"csrf_token": "wrong"}, follow_redirects=False).status_code == 403, url


def test_the_overview_shows_how_pairs_are_made_and_what_was_refused(portal: Portal, ann: Caller) -> None:
    ready(portal)
    with transaction(portal.factory) as db:
        project, version = db.scalars(select(Project)).one(), db.scalars(select(Version)).one()
        counts = {"sampled": 1200, "formed": 500, "seconds": 250, "looping": 5, "near_identical": 7, "no_pair": 3}
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts=counts)
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts={"looping": 1})
        week_ago = utcnow().date() - timedelta(days=7)
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts={"empty": 9}, day=week_ago)
        project.refill_last_error, project.refill_last_error_at = "The engine said nothing.", utcnow()
    page = ann.get("/p/tone").text
    assert "of 24 kept ready" in page
    assert "0.5 s" in page
    assert "1.1%" in page, "13 of 1,200"
    assert "13 of 1,200 answers" in page
    assert "<dt>refused: going round in circles</dt><dd>6</dd>" in page
    assert "dropped: nearly the same as another answer" in page
    assert "refused: empty" not in page, "a week ago"
    assert "is over: The engine said nothing." in page
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.refill_problem, project.refill_failures = "The engine is down.", 3
        project.refill_due_at = utcnow() + timedelta(seconds=30)
    page = ann.get("/p/tone").text
    assert "New pairs cannot be made at present." in page
    assert "waiting to try again" in page
    assert "is over" not in page
