"""What admins see of their votes as preferences: the summary, contradictions, drift, and the two settings pages."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Comparison, Project
from app.preferences.drift import drift
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal, marks


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


def lay_votes(portal: Portal) -> None:
    """One contested pair, one of which all say the same, and one that was judged a month ago and again today."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = rows.make_version(db, project, number=1)
        contested = rows.make_comparison(db, project, version=version, slots=3, texts=("Left <b>one</b>", "Right one"))
        for slot, choice in enumerate("aab"):
            rows.make_vote(db, contested, slot=slot, choice=choice)
        agreed = rows.make_comparison(db, project, version=version, slots=2)
        for slot in range(2):
            rows.make_vote(db, agreed, slot=slot)
        old = rows.make_comparison(db, project, version=version, slots=2)
        rows.make_vote(db, old, created_at=utcnow() - timedelta(days=40))
        rows.make_vote(db, old, slot=1, choice="b")


def test_the_summary_counts_what_a_round_would_read(portal: Portal, ann: Caller) -> None:
    lay_votes(portal)
    page = ann.get("/p/tone/preferences")
    assert page.status_code == 200
    assert 'Contradictions <span class="muted">2</span>' in page.text
    assert "Pairs that wait" in page.text
    key = portal.token(portal.user("ann2@example.org", is_site_admin=True), "export:read")
    summary = key.get("/api/v1/projects/tone/preferences").json()
    assert (summary["train"], summary["contradictions"], summary["aggregation"]["method"]) == (7, 2, "each")
    found = key.get("/api/v1/projects/tone/preferences/contradictions?limit=1").json()
    assert (found["next_offset"], found["waiting"]) == (1, 2)
    assert sorted((found["items"][0]["votes_a"], found["items"][0]["votes_b"])) in ([1, 1], [1, 2])
    rest = key.get("/api/v1/projects/tone/preferences/contradictions?offset=1").json()
    assert len(found["items"]) == len(rest["items"]) == 1
    assert rest["next_offset"] is None
    assert rest["next_cursor"] is None


def test_contradictions_go_on_by_cursor_whatever_is_judged_meanwhile(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        contested = []
        for choices, hours in (("abab", 0), ("ab", 3), ("aab", 1), ("bba", 2)):
            comparison = rows.make_comparison(db, project, slots=7)
            for slot, choice in enumerate(choices):
                rows.make_vote(db, comparison, slot=slot, choice=choice, created_at=utcnow() - timedelta(hours=hours))
            contested.append(str(comparison.id))
    key = portal.token(portal.user("ann2@example.org", is_site_admin=True), "export:read")
    url = "/api/v1/projects/tone/preferences/contradictions"

    def ids(page: dict[str, Any]) -> list[str]:
        return [item["comparison_id"] for item in page["items"]]

    first = key.get(f"{url}?limit=2").json()
    assert ids(first) == contested[:2]
    with transaction(portal.factory) as db:  # the last one becomes the most contested: it is past, not shown twice
        last = db.get_one(Comparison, contested[3])
        for slot, choice in enumerate("abab", start=3):
            rows.make_vote(db, last, slot=slot, choice=choice)
    second = key.get(f"{url}?limit=2&cursor={first['next_cursor']}").json()
    assert (ids(second), second["next_cursor"], second["next_offset"]) == ([contested[2]], None, None)
    assert ids(key.get(f"{url}?limit=2&offset=1").json()) == contested[:2]
    for wrong in (f"cursor={first['next_cursor']}&offset=2", "cursor=nonsense"):
        refused = key.get(f"{url}?{wrong}")
        assert (refused.status_code, refused.json()["field"]) == (
            422,
            "cursor" if "no" in wrong else "offset",
        )


def test_drift_is_what_changed_within_a_month_and_not_what_was_contested_anyway(portal: Portal, ann: Caller) -> None:
    """Other people's votes a month apart: one of one disagrees. At most a week apart: 2 of the 3 and 0 of 1."""
    lay_votes(portal)
    with portal.db() as db:
        report = drift(db, db.scalars(select(Project)).one())
    assert report.others.recent is not None
    assert report.others.usual is not None
    assert (report.others.recent.hits, report.others.recent.total) == (1, 1)
    assert (report.others.usual.hits, report.others.usual.total) == (2, 4)
    assert not report.others.drifted
    assert report.same.recent is None
    key = portal.token(portal.user("ann2@example.org", is_site_admin=True), "export:read")
    told = key.get("/api/v1/projects/tone/preferences/drift").json()
    assert told["gaps"][-1]["to_days"] is None
    assert told["others"]["recent"]["value"] == 1.0


def test_the_settings_pages_keep_what_is_right_and_say_what_is_wrong(portal: Portal, ann: Caller) -> None:
    assert ann.get("/p/tone/settings/queue").status_code == 200
    wrong = ann.post("/p/tone/settings/queue", {"gold_percent": "40", "repeat_percent": "30", "order": "random"})
    assert wrong.status_code == 422
    assert "70%" in wrong.text
    saved = ann.post("/p/tone/settings/queue", {"gold_percent": "5", "order": "breadth", "bad_faith": "quarantine"})
    assert saved.headers["location"] == "/p/tone/settings/queue"

    assert ann.get("/p/tone/settings/preferences").status_code == 200
    wrong = ann.post("/p/tone/settings/preferences", {"method": "majority", "half_life_days": "soon"})
    assert wrong.status_code == 422
    wrong = ann.post("/p/tone/settings/preferences", {"method": "each", "replay_percent": "100"})
    assert wrong.status_code == 422
    given = {"method": "majority", "skill": "1", "half_life_days": "30", "margin-much": "2"}
    given |= {"window_days": "90", "replay_percent": "0"}
    assert ann.post("/p/tone/settings/preferences", given).headers["location"] == "/p/tone/settings/preferences"
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
        assert (project.queue["gold_percent"], project.queue["order"]) == (5, "breadth")
        assert (project.queue["bad_faith"], project.queue["own_prompts"]) == ("quarantine", False)
        assert (project.aggregation["method"], project.aggregation["half_life_days"]) == ("majority", 30)
        assert project.aggregation["margins"]["much"] == 2
        assert (project.aggregation["window_days"], project.aggregation["replay_percent"]) == (90, 0)
    german = {"Accept-Language": "de"}
    margins = {"method": "majority", "margin-slightly": "0,25", "margin-much": "1.5"}
    assert ann.post("/p/tone/settings/preferences", given | margins, headers=german).status_code == 303
    with portal.db() as db:
        assert db.scalars(select(Project.aggregation)).one()["margins"] == {
            "slightly": 0.25,
            "clearly": 0.5,
            "much": 1.5,
        }
    assert 'value="0,25"' in ann.get("/p/tone/settings/preferences", headers=german).text
    assert ann.post("/p/tone/settings/queue", {"repeat_after": "1.000"}, headers=german).status_code == 422
    page = ann.get("/p/tone/preferences")
    assert "of the last 90 days, at most 0% of them learned before" in page.text


def settings_of(portal: Portal) -> tuple[dict[str, Any], dict[str, Any]]:
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
        return project.queue, project.aggregation


def test_two_admins_keep_what_each_changed_in_the_queue_and_are_asked_where_both_did(
    portal: Portal, ann: Caller
) -> None:
    """The form's own values, as a browser sends them; German marks in it are no change."""
    form = {"order": "oldest", "min_seconds": "0", "own_prompts": "1", "bad_faith": "report", "gold_percent": "2.5"}
    form |= {"daily_goal": "", "attention_percent": "0", "repeat_percent": "0", "repeat_after": "20"}
    form |= {"qualification_pairs": "0", "qualification_percent": "70"}
    ann.post("/p/tone/settings/queue", form)
    shown = {"shown": marks(ann.get("/p/tone/settings/queue").text)}
    ann.post("/p/tone/settings/queue", form | shown | {"daily_goal": "20", "order": "random"})
    del form["own_prompts"]
    german = {"Accept-Language": "de"}
    typed = form | shown | {"min_seconds": "1,5", "gold_percent": "2,5"}
    assert ann.post("/p/tone/settings/queue", typed, headers=german).status_code == 303
    both, _ = settings_of(portal)
    assert (both["daily_goal"], both["order"], both["min_seconds"], both["own_prompts"]) == (20, "random", 1.5, False)
    late = form | shown | {"daily_goal": "30", "order": "newest", "repeat_percent": "5"}
    answer = ann.post("/p/tone/settings/queue", late)
    assert answer.status_code == 409
    assert "Somebody else has changed the same settings" in answer.text
    assert all(text in answer.text for text in ('value="30"', 'dir="auto">20<', "selected>Newest", ">By chance<"))
    assert 'name="min_seconds" type="text" value="1.5"' in answer.text, "what only the other changed is in the form"
    assert settings_of(portal)[0] == both
    again = late | {"min_seconds": "1.5", "shown": marks(answer.text)}
    assert ann.post("/p/tone/settings/queue", again).status_code == 303
    now, _ = settings_of(portal)
    assert now == both | {"daily_goal": 30, "order": "newest", "repeat_percent": 5}


def test_two_admins_keep_what_each_changed_of_how_votes_become_preferences(portal: Portal, ann: Caller) -> None:
    helpful = {"key": "helpful", "label": "Helpful", "scale": "preference"}
    brief = {"key": "brief", "label": "Brief", "scale": "preference"}
    with transaction(portal.factory) as db:
        db.scalars(select(Project)).one().reviewing = {"criteria": [helpful]}
    form = {"method": "each", "undecided": "tie", "half_life_days": "", "window_days": "", "replay_percent": ""}
    form |= {"criteria": "weighted", "weight-helpful": "2", "ties": "keep", "both_bad": "keep", "corrections": "1"}
    form |= {"margin-slightly": "0", "margin-clearly": "0.5", "margin-much": "1"}
    ann.post("/p/tone/settings/preferences", form)
    shown = {"shown": marks(ann.get("/p/tone/settings/preferences").text)}
    with transaction(portal.factory) as db:  # a criterion more, weighed by an admin who saw it
        db.scalars(select(Project)).one().reviewing = {"criteria": [helpful, brief]}
    other = form | {"shown": marks(ann.get("/p/tone/settings/preferences").text)}
    other |= {"weight-brief": "3", "margin-much": "1.5", "window_days": "90", "ties": "drop"}
    ann.post("/p/tone/settings/preferences", other)
    mine = form | shown | {"skill": "1", "weight-helpful": "4", "margin-much": "1"}
    assert ann.post("/p/tone/settings/preferences", mine).status_code == 303
    _, both = settings_of(portal)
    assert (both["window_days"], both["ties"], both["skill"], both["margins"]["much"]) == (90, "drop", True, 1.5)
    assert both["criteria_weights"] == {"helpful": 4, "brief": 3}
    answer = ann.post("/p/tone/settings/preferences", form | shown | {"margin-much": "2", "weight-helpful": "5"})
    assert answer.status_code == 409
    assert all(text in answer.text for text in ('value="2"', 'dir="auto">1.5<', 'value="5"', 'dir="auto">4<'))
    assert settings_of(portal)[1] == both
