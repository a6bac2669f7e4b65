"""Admins read everybody's votes, narrow the list, and take along what it lists: comments of API clients too."""

import html
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.comparisons.service import record_feedback, record_label
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import AuditEntry, Comparison, Project, User, Vote
from app.preferences import votes
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

PAGE = "/p/tone/preferences/votes"


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


@pytest.fixture
def bo(portal: Portal, ann: Caller) -> User:
    """Says all that can be said; their votes are laid by ``lay``."""
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    person = portal.member(project, "bo@example.org")
    lay(portal, person)
    return person


def lay(portal: Portal, bo: User) -> None:
    """One vote of each kind, told apart by the prompt."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        bo = db.merge(bo)
        version = rows.make_version(db, project, number=1)

        def pair(text: str, **options: Any) -> Comparison:
            prompt = rows.make_prompt(db, project, text=text, held_out=options.pop("held_out", False))
            return rows.make_comparison(db, project, version=version, prompt=prompt, **options)

        rows.make_vote(db, pair("plain 100% sure?"), choice="a")
        rows.make_vote(db, pair("with a note"), reviewer=bo, choice="b", comment="It names the Oven's heat.")
        rows.make_vote(db, pair("tied"), choice="tie", tags=["Wrong"])
        rows.make_vote(db, pair("measured", held_out=True), choice="both_bad")
        rows.make_vote(db, pair("long ago"), created_at=utcnow() - timedelta(days=50), corrected="As it should be.")
        old, new = (pair("changed"), "skip")
        first = rows.make_vote(db, old, reviewer=bo, comment="what was said first")
        again = {"choice": new, "shown_choice": new, "revision": 2, "comment": None, "created_at": utcnow()}
        kept = {column.key: getattr(first, column.key) for column in Vote.__table__.columns}
        db.add(Vote(**{key: value for key, value in kept.items() if key != "id"} | again))
        played = pair("played")
        played.strategy = "playground"
        rows.make_vote(db, played, reviewer=bo)
        asked = rows.make_prompt(db, project, text="from outside")
        _, (a, b) = rows.make_chat(db, asked, bo, version=version, texts=("One", "Other"))
        record_feedback(db, project=project, user_id=bo.id, a=a, b=b, choice="a", comment="Clearer <b>by far</b>")
        record_label(db, project=project, user_id=bo.id, completion=a, desirable=True, comment="a thumb")


ALL = {"plain 100% sure?", "with a note", "tied", "measured", "long ago", "changed", "played", "from outside"}


def listed(caller: Caller, query: str = "") -> set[str]:
    page = html.unescape(caller.get(f"{PAGE}{query}").text)
    return {text for text in ALL if f'<h2 dir="auto">{text}</h2>' in page}


def test_what_api_clients_said_of_two_answers_is_read_with_its_comment(portal: Portal, ann: Caller, bo: User) -> None:
    assert f'href="{PAGE}"' in ann.get("/p/tone/preferences").text
    page = ann.get(f"{PAGE}?origin=clients").text
    assert "Clearer &lt;b&gt;by far&lt;/b&gt;" in page
    assert "API client" in page
    assert f'href="/p/tone/reviewers/{bo.id}"' in page
    assert "1 vote." in page


NARROWED: dict[str, set[str]] = {
    "": ALL,
    "?mentions=&reviewer=&said=&with=&origin=&split=&age=": ALL,
    "?said=preferred": {"plain 100% sure?", "with a note", "long ago", "played", "from outside"},
    "?said=tie": {"tied"},
    "?said=both_bad": {"measured"},
    "?said=skip": {"changed"},
    "?with=comment": {"with a note", "from outside"},
    "?with=reasons": {"tied"},
    "?with=correction": {"long ago"},
    "?origin=playground": {"played"},
    "?origin=clients": {"from outside"},
    "?origin=reviewers": ALL - {"played", "from outside"},
    "?split=eval": {"measured"},
    "?age=older": {"long ago"},
    "?age=week&split=train": ALL - {"measured", "long ago"},
    "?mentions=OVEN'S": {"with a note"},
    "?mentions=Tied": {"tied"},
    "?mentions=0%25": {"plain 100% sure?"},
    "?mentions=l_ng": set(),
    "?mentions=what+was+said+first": set(),
}
"""What each filter leaves."""


def test_the_list_is_narrowed_and_the_export_is_what_it_lists(portal: Portal, ann: Caller, bo: User) -> None:
    for query, found in NARROWED.items():
        assert listed(ann, query) == found, query
        taken = ann.get(f"/p/tone/preferences/votes.jsonl{query}")
        lines = [json.loads(line) for line in taken.text.splitlines()]
        assert sorted(line["prompt"][0]["content"] for line in lines) == sorted(found), query
        assert all(line["latest"] for line in lines)
    assert ann.get(f"{PAGE}?mentions={'x' * 201}").status_code == 422


def test_whose_votes_they_are_can_be_chosen(portal: Portal, ann: Caller, bo: User) -> None:
    mine = {"with a note", "changed", "played", "from outside"}
    assert listed(ann, f"?reviewer={bo.id}") == mine
    program = portal.token(portal.user("cleo@example.org", is_site_admin=True), "export:read")
    answer = program.get(f"/api/v1/projects/tone/preferences/votes?reviewer={bo.id}&with=comment")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["comment"] for line in lines] == ["It names the Oven's heat.", "Clearer <b>by far</b>"]
    assert [line["source"] for line in lines] == ["web", "feedback"]
    with portal.db() as db:
        entry = db.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry is not None
    assert (entry.action, entry.data["only_reviewer"], entry.data["only_said_with"]) == (
        "preferences.export", str(bo.id), "comment"
    )  # fmt: skip


def test_pages_go_on_where_the_one_before_ended(
    portal: Portal, ann: Caller, bo: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.preferences.votes_pages.PAGE_SIZE", 3)
    seen: list[str] = []
    address = f"{PAGE}?split=train"
    for _ in range(3):
        page = html.unescape(ann.get(address).text)
        seen += [text for text in ALL if f'<h2 dir="auto">{text}</h2>' in page]
        address = next((part for part in page.split('"') if "before=" in part), "")
    assert sorted(seen) == sorted(ALL - {"measured"})
    assert address == ""


def test_more_than_can_be_counted_are_said_to_be_more(
    portal: Portal, ann: Caller, bo: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(votes, "COUNTED_UP_TO", 2)
    assert "More than 2 votes." in ann.get(PAGE).text
    assert "1 vote." in ann.get(f"{PAGE}?said=tie").text


def test_where_nothing_fits_the_page_says_so(portal: Portal, ann: Caller) -> None:
    assert "What reviewers and API clients say of answers is listed here." in ann.get(PAGE).text
    none = ann.get(f"{PAGE}?said=tie").text
    assert "Nobody has said anything like this." in none
    assert f'href="{PAGE}"' in none
    assert "votes.jsonl" not in none


def test_reviewers_read_nobodys_votes(portal: Portal, ann: Caller, bo: User) -> None:
    reviewer = portal.browser(bo)
    assert reviewer.get(PAGE).status_code == 403
    assert reviewer.get("/p/tone/preferences/votes.jsonl").status_code == 403
