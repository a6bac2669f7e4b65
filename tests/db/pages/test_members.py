"""Who takes part, and in which role."""

from sqlalchemy import select

from app.db.tables import Membership
from tests.fixtures.portal import Caller, Portal


def test_who_is_a_member_already_keeps_their_role(portal: Portal, ann: Caller) -> None:
    portal.user("bo@example.org")
    ann.post("/p/tone/members", {"email": "bo@example.org", "role": "admin"})
    again = ann.post("/p/tone/members", {"email": "bo@example.org", "role": "reviewer"})
    assert again.status_code == 409
    assert "This project has bo@example.org already, as an admin." in again.text
    with portal.db() as db:
        assert set(db.scalars(select(Membership.role))) == {"admin"}


def test_who_makes_themselves_a_reviewer_lands_where_they_may_be(portal: Portal, ann: Caller) -> None:
    bo = portal.user("bo@example.org")
    ann.post("/p/tone/members", {"email": "bo@example.org", "role": "admin"})
    browser = portal.browser(bo)
    assert "Only another admin can make you an admin again." in browser.get("/p/tone/members").text
    answer = browser.post(f"/p/tone/members/{bo.id}/role", {"role": "reviewer"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/tone")
    assert "You are a reviewer of this project now." in browser.get("/p/tone").text
    ann.post(f"/p/tone/members/{bo.id}/role", {"role": "admin"})
    assert browser.post(f"/p/tone/members/{bo.id}/remove").headers["location"] == "/"


def test_members_are_added_by_address(portal: Portal, ann: Caller) -> None:
    portal.user("bo@example.org")
    assert ann.post("/p/tone/members", {"email": " Bo@Example.org", "role": "reviewer"}).status_code == 303
    assert "bo@example.org" in ann.get("/p/tone/members").text
    unknown = ann.post("/p/tone/members", {"email": "nobody@example.org", "role": "reviewer"})
    assert unknown.status_code == 422
    assert "No account has the address" in unknown.text
    last = ann.post(f"/p/tone/members/{ann.user_id}/remove")
    assert last.status_code == 409
    with portal.db() as db:
        bo = db.scalars(select(Membership.user_id).where(Membership.role == "reviewer")).one()
    assert ann.post(f"/p/tone/members/{bo}/role", {"role": "admin"}).status_code == 303
    assert ann.post(f"/p/tone/members/{ann.user_id}/remove").status_code == 303
    with portal.db() as db:
        assert db.scalars(select(Membership.user_id)).all() == [bo]
