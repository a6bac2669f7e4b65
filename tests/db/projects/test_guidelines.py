"""Guidelines that change: who is told what, until when, and what admins see of it."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Guidelines, Project, User, Vote
from app.projects import guidelines
from app.projects.service import hold, update_project
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

NEWS = 'id="news"'


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user, guidelines="Be *kind*.")
    return portal.browser(user)


def change(portal: Portal, actor: Caller | None = None, **changes: object) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        hold(db, project)
        update_project(db, project, actor=actor.user_id if actor else None, **changes)


def reviewer(portal: Portal, email: str) -> Caller:
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    return portal.browser(portal.member(project, email))


def test_a_reviewer_is_shown_old_and_new_until_they_say_that_they_have_read_it(portal: Portal, ann: Caller) -> None:
    bo = reviewer(portal, "bo@example.org")
    assert NEWS not in bo.get("/p/tone/compare").text
    change(portal, name="Tone of voice")
    assert NEWS not in bo.get("/p/tone/compare").text, "nothing that reviewers are told has changed"
    change(portal, guidelines="Be *brief*.")
    change(portal, guidelines="Be *brief* and kind.", reviewing={"comment": "required", "comment_min_chars": 5})
    page = bo.get("/p/tone/compare").text
    assert "The guidelines changed on" in page
    assert page.count("<em>kind</em>") == 1, "what they had read last, and not what came between"
    assert page.count("<em>brief</em> and kind.") == 2, "in the note, and below it"
    assert "Required (before: Optional)" in page
    assert "5 (before: 0)" in page
    assert NEWS in bo.get("/p/tone/compare").text, "to have been there is not to have read it"
    newcomer = reviewer(portal, "cy@example.org")
    assert NEWS not in newcomer.get("/p/tone/compare").text
    answer = bo.post("/p/tone/compare/guidelines", {"number": "3"})
    assert answer.headers["location"] == "/p/tone/compare"
    assert NEWS not in bo.get("/p/tone/compare").text
    change(portal, guidelines="Be honest.")
    bo.post("/p/tone/compare/guidelines", {"number": "3"})  # of a page that was open before
    assert NEWS in bo.get("/p/tone/compare").text
    assert NEWS in newcomer.get("/p/tone/compare").text
    with portal.db() as db:
        kept = db.execute(select(Guidelines.number, Guidelines.text).order_by(Guidelines.number)).all()
    assert [tuple(row) for row in kept] == [
        (1, "Be *kind*."),
        (2, "Be *brief*."),
        (3, "Be *brief* and kind."),
        (4, "Be honest."),
    ]


def test_who_wrote_them_is_not_told_and_nobody_is_of_what_is_again_as_they_know_it(portal: Portal, ann: Caller) -> None:
    bo = reviewer(portal, "bo@example.org")
    for somebody in (ann, bo):
        somebody.get("/p/tone/compare")
    change(portal, ann, guidelines="Be brief.")
    assert NEWS not in ann.get("/p/tone/compare").text
    change(portal, ann, guidelines="Be *kind*.")
    assert NEWS not in bo.get("/p/tone/compare").text
    change(portal, ann, reviewing={"answers": 4})
    assert NEWS not in bo.get("/p/tone/compare").text, "how many answers are sampled for a pair does not show"
    change(portal, ann, reviewing={"scale": "ab"})
    assert "What you are asked changed on" in bo.get("/p/tone/compare").text


def test_admins_see_how_many_active_reviewers_have_read_them(portal: Portal, ann: Caller) -> None:
    people = {name: reviewer(portal, f"{name}@example.org") for name in ("bo", "cy", "di", "ed")}
    for person in people.values():
        person.get("/p/tone/compare")
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = rows.make_version(db, project, number=1)
        for name in ("bo", "cy", "di"):
            user = db.get_one(User, people[name].user_id)
            rows.make_vote(db, rows.make_comparison(db, project, version=version), reviewer=user)
            user.name = name.title()
        long_ago = utcnow() - timedelta(days=guidelines.ACTIVE_DAYS + 1)
        db.execute(update(Vote).where(Vote.reviewer_id == people["di"].user_id).values(created_at=long_ago))
    assert "active reviewer" not in ann.get("/p/tone/settings/reviewing").text, "there never were others"
    change(portal, ann, guidelines="Be brief.")
    assert "0 of 2 active reviewers have read them." in ann.get("/p/tone/settings/reviewing").text
    people["cy"].post("/p/tone/compare/guidelines", {"number": "2"})
    page = ann.get("/p/tone/settings/reviewing").text
    assert "1 of 2 active reviewers have read them." in page
    assert "Not yet: Bo." in page
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        for number in range(12):
            rows.make_vote(db, rows.make_comparison(db, project), reviewer=rows.make_user(db, name=f"Reader {number}"))
    page = ann.get("/p/tone/settings/reviewing").text
    assert "Not yet: " not in page
    assert "<summary>13 people have not read them yet</summary>" in page
    assert "<li><bdi>Reader 11</bdi></li>" in page
