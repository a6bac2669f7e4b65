"""What admins see of their reviewers, over pages and API: figures, sides, a table, checks, quarantine."""

import csv
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.comparisons.service import lease_next
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Assignment, AuditEntry, Completion, Control, Project, Standing, User, Vote
from app.reviewers.service import quarantine
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

API = "/api/v1/projects/tone"


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


def project_id(db: Session) -> UUID:
    return db.scalars(select(Project.id)).one()


def lay_votes(portal: Portal, *, pairs: int = 40) -> tuple[str, str]:
    """Pairs with three votes: two who agree in four of five, and one who always takes the left; the ids of an honest
    one and of that one."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        old, new = rows.make_version(db, project, number=1), rows.make_version(db, project, number=2, state="candidate")
        fair, other, clicker = (rows.make_member(db, project) for _ in range(3))
        fair.name = "=HYPERLINK(1)"
        for number in range(pairs):
            pair = rows.make_comparison(db, project, versions=(new, old), slots=3, first_left="ab"[number % 2])
            left = "ab"[(number + 1) % 2]  # slot 1 shows the other side
            often = "a" if number % 5 else "b"
            for slot, (who, choice) in enumerate([(fair, "a"), (clicker, left), (other, often)]):
                rows.make_vote(db, pair, reviewer=who, slot=slot, choice=choice, seconds=4.0)
        return str(fair.id), str(clicker.id)


def test_how_far_everybody_is_is_on_one_page(portal: Portal, ann: Caller) -> None:
    empty = ann.get("/p/tone/reviewers/work").text
    assert "Figures appear with the first choices." in empty
    fair, clicker = lay_votes(portal, pairs=10)
    with transaction(portal.factory) as db:
        project = db.get_one(Project, project_id(db))
        project.queue = {"daily_goal": 10}
        db.add(Standing(project_id=project.id, reviewer_id=UUID(clicker), daily_goal=25))
        idle = rows.make_member(db, project, user=rows.make_user(db, name="Idle One"))
        last = rows.make_comparison(db, project, version=rows.make_version(db, project, number=9, state="retired"))
        rows.make_vote(db, last, reviewer=db.get_one(User, UUID(fair)), created_at=utcnow() - timedelta(days=45))
    assert 'href="/p/tone/reviewers/work"' in ann.get("/p/tone/reviewers").text
    page = ann.get("/p/tone/reviewers/work").text
    line = {who: page.split(f"/reviewers/{who}")[1].split("</tr>")[0] for who in (fair, clicker, str(idle.id))}
    assert "10 of 10" in line[fair]
    assert "goal reached" in line[fair]
    assert "10 of 25" in line[clicker]
    assert "goal reached" not in line[clicker]
    assert "has not judged anything yet" in line[str(idle.id)]
    assert f'aria-label="Judged on each of these days, today last: {"0, " * 29}10"' in line[clicker]
    weeks = page.split('id="weeks"')[1]
    assert weeks.count('<th scope="row">') == 7 + (utcnow().weekday() < 45 % 7)
    assert "30 of" not in weeks
    assert ">31<" not in weeks, "the one of 45 days ago is in a week of its own"
    assert ">30<" in weeks
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "projects:read")
    work = key.get(f"{API}/reviewers/work").json()
    by_id = {item["user_id"]: item for item in work["items"]}
    assert (by_id[clicker]["today"], by_id[clicker]["goal"], by_id[clicker]["days"]) == (10, 25, [0] * 29 + [10])
    assert (by_id[str(idle.id)]["days"], by_id[str(idle.id)]["last"]) == ([], None)
    assert [week["judged"] for week in work["weeks"]] == [1, *[0] * (len(work["weeks"]) - 2), 30]
    assert work["weeks"][-1]["agreement"]["total"] == 30, "three votes on each of ten pairs: three twos each"
    assert by_id[fair]["before"] is None


def test_figures_suspicions_and_sides_are_shown_and_given(portal: Portal, ann: Caller) -> None:
    fair, clicker = lay_votes(portal)
    page = ann.get("/p/tone/reviewers").text
    assert "40 of 40 preferences are for the answer on the left" in page
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "projects:read", "projects:write")
    report = key.get(f"{API}/reviewers").json()
    by_id = {item["user_id"]: item for item in report["items"]}
    assert report["items"][0]["user_id"] == clicker, "those under suspicion first"
    assert "one_sided" in {item["kind"] for item in by_id[clicker]["suspicions"]}
    assert (by_id[fair]["suspicions"], by_id[fair]["figures"]["judged"]) == ([], 40)
    assert by_id[fair]["figures"]["weight"] > by_id[clicker]["figures"]["weight"]
    assert 0 < by_id[fair]["figures"]["left"]["share"]["low"] < 0.5 < by_id[fair]["figures"]["left"]["share"]["high"]
    # three votes a pair: two of them with one side on the left, one with the other
    sides = report["sides"]
    assert (sides["balanced"]["hits"], sides["balanced"]["total"]) == (40, 40)
    assert sides["first_left"]["share"]["total"] == 120
    assert sides["first_left"]["p"] > 0.9
    assert [(item["version"], item["on_left"]["share"]["value"]) for item in sides["versions"]] == [(2, 0.5), (1, 0.5)]


def test_a_project_that_does_not_look_for_bad_faith_hears_of_none(portal: Portal, ann: Caller) -> None:
    lay_votes(portal)
    assert ann.post("/p/tone/settings/queue", {"bad_faith": "off"}).status_code == 303
    page = ann.get("/p/tone/reviewers").text
    assert "on the left</span>" not in page
    assert "Krippendorff" in page


def test_the_table_has_a_line_for_everybody_and_no_formula(portal: Portal, ann: Caller) -> None:
    fair, _ = lay_votes(portal)
    answer = ann.get("/p/tone/reviewers.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = {line["email"]: line for line in csv.DictReader(StringIO(answer.text))}
    with portal.db() as db:
        mine = lines[db.scalars(select(User.email).where(User.id == fair)).one()]
    assert (mine["name"], mine["judged"], mine["left_total"], mine["seconds"]) == ("'=HYPERLINK(1)", "40", "40", "4")
    assert lines["ann@example.org"]["judged"] == "0"
    assert float(mine["with_others_low"]) < float(mine["with_others"]) < float(mine["with_others_high"])


def test_quarantine_goal_and_qualification_are_set_on_the_page_and_audited(portal: Portal, ann: Caller) -> None:
    _, clicker = lay_votes(portal)
    mine = f"/p/tone/reviewers/{clicker}"
    ann.post("/p/tone/settings/queue", {"qualification_pairs": "1"})
    assert "Looks at one side only" in ann.get(mine).text
    assert ann.post(f"{mine}/quarantine", {"reason": "clicks left"}).headers["location"] == mine
    told = ann.get(mine).text
    assert "clicks left" in told
    assert "40 unread votes are set aside" in told
    assert ann.post(f"{mine}/quarantine", {"reason": "again"}).status_code == 409
    ann.post(f"{mine}/release")
    ann.post(f"{mine}/goal", {"pairs": "30"})
    ann.post(f"{mine}/qualification", {"value": "waived"})
    told = ann.get(mine).text
    assert told.index("Qualification set by hand") < told.index("Released") < told.index("Quarantine: clicks left")
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "projects:read", "projects:write")
    person = next(item for item in key.get(f"{API}/reviewers").json()["items"] if item["user_id"] == clicker)
    assert (person["paused_at"], person["set_aside"]) == (None, 0)
    assert (person["daily_goal"], person["qualification"]) == (30, "waived")
    with portal.db() as db:
        actions = db.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"user:{clicker}")).all()
    assert sorted(actions) == ["reviewer.goal", "reviewer.qualification", "reviewer.quarantine", "reviewer.release"]


def test_quarantine_and_release_tell_what_becomes_of_votes_that_rounds_have_read(portal: Portal, ann: Caller) -> None:
    _, clicker = lay_votes(portal)
    with transaction(portal.factory) as db:
        mine = select(Assignment.id).where(Assignment.reviewer_id == UUID(clicker)).limit(16)
        db.execute(update(Assignment).where(Assignment.id.in_(mine)).values(frozen_at=utcnow()))
    page = f"/p/tone/reviewers/{clicker}"
    ann.post(f"{page}/quarantine", {"reason": "clicks left"})
    told = ann.get(page).text
    assert "24 unread votes were set aside. 16 that rounds have read will be left out of later rounds." in told
    assert "24 unread votes are set aside. 16 that rounds have read are left out of later rounds." in told
    ann.post(f"{page}/release")
    assert "24 unread votes count again. Later rounds read 16 again that rounds have read before." in ann.get(page).text


def test_decide_again_says_when_there_is_too_little_gold_for_it(portal: Portal, ann: Caller) -> None:
    _, clicker = lay_votes(portal)
    ann.post("/p/tone/settings/queue", {"qualification_pairs": "2"})
    page = f"/p/tone/reviewers/{clicker}"
    assert "not asked for" in ann.get(page).text, "they judged before it began"
    with transaction(portal.factory) as db:
        db.execute(
            insert(Standing).values(project_id=project_id(db), reviewer_id=UUID(clicker), qualification="failed")
        )
        rows.make_control(db, db.scalars(select(Project)).one())
    assert "not qualified" in ann.get(page).text
    ann.post(f"{page}/qualification", {"value": "open"})
    told = ann.get(page).text
    assert "It takes 2 gold pairs; left for them: 1. Add some." in told
    assert "not decided yet" in told
    with transaction(portal.factory) as db:
        rows.make_control(db, db.scalars(select(Project)).one())
    ann.post(f"{page}/qualification", {"value": "open"})
    assert "begins anew, with other gold pairs" in ann.get(page).text


def test_the_first_page_asks_nobody_to_work_who_would_get_nothing(portal: Portal, ann: Caller) -> None:
    _, clicker = lay_votes(portal)
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        rows.make_comparison(db, project, version=rows.make_version(db, project, number=3, state="retired"))
        someone = db.get_one(User, UUID(clicker))
        newcomer = rows.make_member(db, project)
    mine, theirs = portal.browser(someone), portal.browser(newcomer)
    assert "1 pair of answers waits for you." in mine.get("/p/tone").text
    ann.post(f"/p/tone/reviewers/{clicker}/quarantine", {"reason": "clicks left"})
    told = mine.get("/p/tone").text
    assert "Reviewing is paused for you" in told
    assert "waits for you" not in told
    assert "Start comparing" not in told
    ann.post("/p/tone/settings/queue", {"qualification_pairs": "1"})
    told = theirs.get("/p/tone").text
    assert "Not ready for you yet" in told
    assert "Start comparing" not in told
    with transaction(portal.factory) as db:
        rows.make_control(db, db.scalars(select(Project)).one())
    told = theirs.get("/p/tone").text
    assert "Pairs of answers wait for you." in told
    assert "Start comparing" in told
    with transaction(portal.factory) as db:
        failed = {"project_id": project_id(db), "reviewer_id": newcomer.id, "qualification": "failed"}
        db.execute(insert(Standing).values(**failed))
    assert "Thank you, that was the first part" in theirs.get("/p/tone").text


def test_gold_is_written_promoted_and_retired(portal: Portal, ann: Caller) -> None:
    lay_votes(portal, pairs=4)
    wrong = ann.post("/p/tone/checks", {"prompt": "Hi", "better": "Hello", "worse": "Hello"})
    assert wrong.status_code == 422
    assert "Both answers read the same" in wrong.text
    ann.post("/p/tone/checks", {"prompt": "Hi", "better": "Hello", "worse": "What?", "note": "manners"})
    # in two of the four the clicker's left was the answer that both others preferred
    ann.post("/p/tone/checks/promote", {"fewest": "3"})
    page = ann.get("/p/tone/checks").text
    assert "manners" in page
    with portal.db() as db:
        origins = sorted(db.scalars(select(Control.origin)))
        written = db.scalars(select(Control.id).where(Control.origin == "admin")).one()
    assert origins == ["admin", "unanimous", "unanimous"]
    ann.post(f"/p/tone/checks/{written}/retire")
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "projects:read", "projects:write")
    listed = key.get(f"{API}/checks").json()["items"]
    assert {item["origin"]: item["retired"] for item in listed} == {"admin": True, "unanimous": False}


def test_checks_go_on_by_cursor_while_some_are_retired(portal: Portal, ann: Caller) -> None:
    for number in range(5):
        ann.post("/p/tone/checks", {"prompt": f"Hi {number}", "better": "Hello", "worse": "What?", "note": str(number)})
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "projects:read", "projects:write")

    def page(**asked: Any) -> tuple[list[str], Any]:
        found = key.client.get(f"{API}/checks", params={"limit": 2} | asked).json()
        return [item["note"] for item in found["items"]], found

    notes, first = page()
    assert (notes, first["next_offset"]) == (["4", "3"], 2)
    for item in first["items"]:
        assert key.client.delete(f"{API}/checks/{item['id']}").status_code == 204
    notes, second = page(cursor=first["next_cursor"])
    assert (notes, second["next_offset"]) == (["2", "1"], None), "none is passed over because others were retired"
    notes, third = page(cursor=second["next_cursor"])
    assert notes == ["0", "4"]
    assert [item["retired"] for item in third["items"]] == [False, True]
    notes, last = page(cursor=third["next_cursor"])
    assert (notes, last["next_cursor"]) == (["3"], None)
    assert page(offset=1)[0] == ["1", "0"]
    refused = key.client.get(f"{API}/checks", params={"cursor": first["next_cursor"][:-4]})
    assert (refused.status_code, refused.json()["field"]) == (422, "cursor")


def test_win_rates_count_a_pair_once_and_weigh_a_chosen_one_back(portal: Portal, ann: Caller) -> None:
    """Four pairs of versions 2 and 1: 2 wins three and loses one, which stands for three even draws: 3 of 6."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        old, new = rows.make_version(db, project, number=1), rows.make_version(db, project, number=2, state="candidate")
        for number, choices in enumerate(["a", "aa", "a", "bb"]):
            pair = rows.make_comparison(db, project, versions=(new, old), slots=len(choices))
            pair.importance = 3.0 if number == 3 else 1.0
            for slot, choice in enumerate(choices):
                rows.make_vote(db, pair, slot=slot, choice=choice)
    key = portal.token(portal.user("site@example.org", is_site_admin=True), "versions:read")
    newer, older = key.get(f"{API}/win-rates").json()["items"]
    assert (newer["version"], newer["opponent"], newer["pairs"]) == (2, 1, 4)
    assert (newer["value"], newer["plain"]) == (0.5, 0.75)
    assert newer["effective"] == pytest.approx(36 / 12)
    assert (older["version"], older["value"]) == (1, 0.5)
    assert newer["low"] < 0.2
    with transaction(portal.factory) as db:
        db.execute(update(Assignment).values(frozen_at=utcnow()))
        first = db.scalars(select(Vote.reviewer_id).order_by(Vote.created_at)).first()
        assert first is not None
        quarantine(db, db.scalars(select(Project)).one(), first, reason="coin flips", actor=None)
    without = key.get(f"{API}/win-rates").json()["items"][0]
    assert (without["pairs"], without["value"]) == (3, pytest.approx(2 / 5)), "read by a round, and in quarantine since"
    assert "Wins against version 1" in ann.get("/p/tone/versions").text


def test_a_lease_is_kept_over_the_api_and_progress_told(portal: Portal, ann: Caller) -> None:
    ann.post("/p/tone/settings/queue", {"daily_goal": "2"})
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        rows.make_comparison(db, project)
        user = rows.make_member(db, project)
        lease = lease_next(db, project=project, reviewer_id=user.id, now=utcnow() - timedelta(seconds=300))
        assert lease is not None
    me = portal.token(user, "votes:write")
    kept = me.post(f"/api/v1/comparisons/{lease.comparison_id}/keep")
    assert kept.status_code == 200
    assert kept.json()["lease_expires_at"] > lease.expires_at.isoformat()
    me.post(f"/api/v1/comparisons/{lease.comparison_id}/votes", json={"choice": "a"})
    over = me.post(f"/api/v1/comparisons/{lease.comparison_id}/keep")
    assert (over.status_code, over.json()["code"]) == (409, "lease_ended")
    told = me.get(f"{API}/progress").json()
    assert (told["mine_today"], told["goal"], told["goal_reached"]) == (1, 2, False)


def test_attention_pairs_are_made_of_an_answer_and_a_misplaced_one(portal: Portal, ann: Caller) -> None:
    assert ann.post("/p/tone/checks/attention", {"count": "2"}).status_code == 422, "there are no answers to use yet"
    lay_votes(portal, pairs=4)
    ann.post("/p/tone/checks/attention", {"count": "3"})
    with portal.db() as db:
        made = db.scalars(select(Control).where(Control.kind == "attention")).all()
        assert len(made) == 3
        for control in made:
            good, bad = (db.get_one(Completion, id_).text for id_ in (control.completion_a_id, control.completion_b_id))
            sampled = select(Completion.prompt_id).where(Completion.version_id.is_not(None))
            assert control.answer == "a"
            assert db.scalars(sampled.where(Completion.text == good)).all() == [control.prompt_id]
            assert control.prompt_id not in db.scalars(sampled.where(Completion.text == bad)).all()
