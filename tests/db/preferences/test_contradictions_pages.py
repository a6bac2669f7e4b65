"""Settling contradictions on pages and by the API: blind first, one after the other, to be withdrawn."""

import re
from uuid import UUID

import pytest
from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Adjudication, Project
from app.preferences.contradictions import side_for
from app.rounds import service as rounds
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

LIST = "/p/tone/preferences/contradictions"
API = "/api/v1/projects/tone/preferences"


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


@pytest.fixture
def pairs(portal: Portal, ann: Caller) -> list[UUID]:
    """Two contested pairs, the more contested one first, and one on which all agree."""
    made = []
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.reviewing = {"criteria": [{"key": "helpful", "label": "Helpful"}]}
        version = rows.make_version(db, project, number=7)
        mia, tom = rows.make_user(db, name="Mia"), rows.make_user(db, name="Tom")
        for said in ("aabb", "ab", "aa"):
            pair = rows.make_comparison(
                db, project, version=version, slots=len(said), texts=(f"one {said}", f"two {said}")
            )
            for slot, choice in enumerate(said):
                more = {"comment": f"Because of {said}.", "criteria": {"helpful": choice}} if slot < 2 else {}
                rows.make_vote(
                    db, pair, slot=slot, choice=choice, reviewer=(mia, tom)[slot] if slot < 2 else None, **more
                )
            made.append(pair.id)
    return made


def first(caller: Caller, pair: UUID) -> str:
    """Whose side stands first for this person."""
    return side_for(pair, caller.user_id)


def test_a_pair_is_shown_blind_until_somebody_asks(ann: Caller, pairs: list[UUID]) -> None:
    page = ann.get(LIST).text
    assert "2 pairs wait" in page
    assert page.index("2 against 2") < page.index("1 against 1")
    assert re.findall(rf"{LIST}/([0-9a-f-]{{36}})", page)[0] == str(pairs[0])
    blind = ann.get(f"{LIST}/{pairs[0]}").text
    assert "1 of 2 that wait" in blind
    left, right = ("one", "two") if first(ann, pairs[0]) == "a" else ("two", "one")
    assert blind.index(f"{left} aabb") < blind.index(f"{right} aabb")
    for told in ("Mia", "Because of", "Helpful", "version 7", "A is better: "):
        assert told not in blind
    shown = ann.get(f"{LIST}/{pairs[0]}?said=1").text
    for told in ("Mia", "Because of aabb.", "Helpful", "A is better: 2"):
        assert told in shown
    assert "their A is B here" in shown
    assert shown.count("their A is B here") == 1  # of Mia and Tom, who saw it from either side


def test_one_after_the_other_with_the_list_as_it_was_narrowed(portal: Portal, ann: Caller, pairs: list[UUID]) -> None:
    went = ann.post(f"{LIST}/{pairs[0]}?age=week", {"choice": "a", "note": "B invents\r\na source."})
    assert went.headers["location"] == f"{LIST}/{pairs[1]}?age=week"
    again = ann.post(f"{LIST}/{pairs[0]}?age=week", {"choice": "a", "note": "B invents\r\na source."})
    assert again.headers["location"] == f"{LIST}/{pairs[1]}?age=week"
    page = ann.get(f"{LIST}/{pairs[1]}?age=week").text
    assert "A is better" in page
    assert f'href="{LIST}/{pairs[0]}?age=week"' in page  # to look at the last one again
    went = ann.post(f"{LIST}/{pairs[1]}", {"choice": "leave", "said": "1"})
    assert went.headers["location"] == LIST
    assert "Nothing waits" in ann.get(LIST).text
    with portal.db() as db:
        kept = {row.comparison_id: row for row in db.scalars(select(Adjudication))}
    assert (kept[pairs[0]].outcome, kept[pairs[0]].note) == (first(ann, pairs[0]), "B invents\na source.")
    assert [kept[pair].saw_votes for pair in pairs[:2]] == [False, True]
    preferences = ann.get("/p/tone/preferences").text
    assert "Settled by adjudication: 1" in preferences
    assert 'Contradictions <span class="muted">0</span>' in preferences


def test_what_was_decided_is_listed_and_withdrawn(portal: Portal, ann: Caller, pairs: list[UUID]) -> None:
    others = (portal.user(f"bob{number}@example.org", is_site_admin=True) for number in range(50))
    bob = portal.browser(next(one for one in others if side_for(pairs[0], one.id) != first(ann, pairs[0])))
    ann.post(f"{LIST}/{pairs[0]}", {"choice": "b:3", "note": "A says nothing."})
    seen = bob.get(f"{LIST}/{pairs[0]}").text
    assert "Settled: B is much better" in seen
    assert "A says nothing." in seen
    left, right = ("one", "two") if first(ann, pairs[0]) == "a" else ("two", "one")  # as Ann saw it, whose note it is
    assert seen.index(f"{left} aabb") < seen.index(f"{right} aabb")
    late = bob.post(f"{LIST}/{pairs[0]}", {"choice": "tie"})
    assert late.headers["location"] == f"{LIST}/{pairs[0]}"
    assert "settled this pair meanwhile" in bob.get(late.headers["location"]).text
    assert "B is much better" in bob.get(f"{LIST}/decided").text
    assert bob.post(f"{LIST}/{pairs[0]}/withdraw").status_code == 303
    assert "withdrawn" in ann.get(f"{LIST}/decided").text
    assert "A says nothing." not in ann.get(f"{LIST}/{pairs[0]}").text  # blind again
    assert "A says nothing." in ann.get(f"{LIST}/{pairs[0]}?said=1").text
    assert "2 pairs wait" in ann.get(LIST).text
    audit = ann.get("/p/tone/audit?kind=adjudication").text
    assert audit.count("adjudication.") == 2


def test_filters_of_the_list(ann: Caller, pairs: list[UUID]) -> None:
    assert "1 pair waits" in ann.get(f"{LIST}?criterion=helpful&reviewer=&age=").text
    about = ann.get(f"{LIST}/{pairs[0]}?criterion=helpful").text
    assert "Listed for the criterion “Helpful”" in about
    assert "Listed for" not in ann.get(f"{LIST}/{pairs[0]}").text
    assert "On no pair like this" in ann.get(f"{LIST}?age=older").text
    assert ann.get(f"{LIST}?age=soon").status_code == 422
    assert ann.get(f"{LIST}?criterion=%00").status_code == 422


def test_reviewers_settle_nothing_and_see_nothing_of_it(portal: Portal, ann: Caller, pairs: list[UUID]) -> None:
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    eve = portal.browser(portal.member(project, "eve@example.org"))
    assert eve.get(LIST).status_code == 403
    assert eve.post(f"{LIST}/{pairs[0]}", {"choice": "a"}).status_code == 403
    admin = portal.browser(portal.member(project, "lead@example.org", role="admin"))
    assert admin.post(f"{LIST}/{pairs[0]}", {"choice": "a"}).status_code == 303


def test_the_same_by_the_api(portal: Portal, ann: Caller, pairs: list[UUID]) -> None:
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    lead = portal.token(portal.member(project, "lead@example.org", role="admin"))
    (top, other) = lead.get(f"{API}/contradictions").json()["items"]
    assert (top["comparison_id"], top["votes_a"], top["votes_b"]) == (str(pairs[0]), 2, 2)
    at = f"{API}/contradictions/{pairs[0]}"
    pair = lead.get(at).json()
    assert (pair["a"], pair["b"], pair["contested"]) == (top["a"], top["b"], True)
    assert [word["who"] for word in pair["words"]][:2] == ["Mia", "Tom"]
    side = first(lead, pairs[0])
    assert pair["words"][0]["choice"] == ("a" if side == "a" else "b")  # Mia said a of the comparison's own

    body = {"choice": "a", "strength": 2, "note": "Shorter.", "saw_votes": False}
    made = lead.client.put(f"{at}/decision", json=body)
    assert made.status_code == 200
    assert lead.client.put(f"{at}/decision", json=body).json() == made.json()
    changed = lead.client.put(f"{at}/decision", json=body | {"choice": "b"})
    assert (changed.status_code, changed.json()["code"]) == (409, "already_settled")
    assert lead.client.put(f"{at}/decision", json={"choice": "skip"}).status_code == 422
    agreed = lead.client.put(f"{API}/contradictions/{pairs[2]}/decision", json=body)
    assert (agreed.status_code, agreed.json()["code"]) == (409, "not_contested")
    assert [item["comparison_id"] for item in lead.get(f"{API}/contradictions").json()["items"]] == [
        other["comparison_id"]
    ]
    summary = lead.get(API).json()
    assert (summary["settled"], summary["contradictions"]) == (1, 1)
    (past,) = lead.get(f"{API}/decisions").json()["items"]
    assert (past["a"], past["decision"]["choice"], past["decision"]["note"]) == (pair["a"], "a", "Shorter.")

    assert lead.client.delete(f"{at}/decision").status_code == 204
    gone = lead.client.delete(f"{at}/decision")
    assert (gone.status_code, gone.json()["code"]) == (409, "not_settled")
    assert lead.get(f"{API}/decisions").json()["items"][0]["decision"]["withdrawn_who"]
    first_page = lead.get(f"{API}/contradictions?limit=1").json()
    last_page = lead.get(f"{API}/contradictions?limit=1&cursor={first_page['next_cursor']}").json()
    assert [page["waiting"] for page in (first_page, last_page)] == [2, 2]
    assert [page["items"][0]["comparison_id"] for page in (first_page, last_page)] == [str(pair) for pair in pairs[:2]]
    assert (last_page["next_cursor"], lead.get(f"{API}/contradictions?offset=2").json()["waiting"]) == (None, 2)
    stranger = portal.token(portal.user("stranger@example.org"))
    assert stranger.get(at).status_code == 404
    reading = portal.token(portal.user("root@example.org", is_site_admin=True), "export:read")
    assert reading.client.put(f"{at}/decision", json=body).status_code == 403


def test_an_archived_project_is_read_and_nothing_settled(portal: Portal, ann: Caller, pairs: list[UUID]) -> None:
    ann.post(f"{LIST}/{pairs[0]}", {"choice": "a"})
    with transaction(portal.factory) as db:
        rounds.archive(db, db.scalars(select(Project)).one())
    assert "1 pair waits" in ann.get(LIST).text
    for pair in pairs[:2]:
        page = ann.get(f"{LIST}/{pair}").text
        assert "takes no votes, prompts or rounds" in page
        assert 'id="ballot"' not in page
        assert 'data-key="leave"' not in page
        assert "Withdraw" not in page
        assert "Because of" in ann.get(f"{LIST}/{pair}?said=1").text
    assert 'data-key="reveal"' in page
    refused = ann.post(f"{LIST}/{pairs[1]}", {"choice": "a"})
    assert (refused.status_code, "This project is archived" in refused.text) == (409, True)
    assert ann.post(f"{LIST}/{pairs[0]}/withdraw").status_code == 409
    key = portal.token(portal.user("root@example.org", is_site_admin=True))
    decision = f"{API}/contradictions/{{}}/decision"
    told = key.client.put(decision.format(pairs[1]), json={"choice": "a"})
    assert (told.status_code, told.json()["code"]) == (409, "project_archived")
    assert key.client.delete(decision.format(pairs[0])).json()["code"] == "project_archived"


def test_figures_and_answers_of_a_reviewer_tell_how_pairs_were_settled(
    portal: Portal, ann: Caller, pairs: list[UUID]
) -> None:
    ann.post(f"{LIST}/{pairs[1]}", {"choice": "a"})
    key = portal.token(portal.user("root@example.org", is_site_admin=True))
    items = {item["name"]: item for item in key.get("/api/v1/projects/tone/reviewers").json()["items"]}
    agreed = {name: items[name]["figures"]["adjudicated"] for name in ("Mia", "Tom")}  # Mia said a, and Tom b
    right = "Mia" if first(ann, pairs[1]) == "a" else "Tom"
    assert {name: (share["hits"], share["total"]) for name, share in agreed.items()} == {
        right: (1, 1),
        ({"Mia", "Tom"} - {right}).pop(): (0, 1),
    }
    page = ann.get(f"/p/tone/reviewers/{items[right]['user_id']}")
    assert "With adjudication" in page.text
    assert f"{LIST}?reviewer={items[right]['user_id']}" in page.text
    assert 'badge good">settled: ' in ann.get(f"/p/tone/reviewers/{items[right]['user_id']}/answers").text
    assert "adjudicated_low" in key.get("/api/v1/projects/tone/reviewers.csv").text.splitlines()[0]
