"""The audit log as admins read it."""

from app.db.session import transaction
from app.db.tables import Project
from app.journal import audit
from tests.fixtures.portal import Portal


def test_admins_read_what_was_done_in_their_project_and_site_admins_everything(portal: Portal) -> None:
    site, ann = portal.user("site@example.org", is_site_admin=True), portal.user("ann@example.org")
    tone, other = portal.project("Tone", ann), portal.project("Other")
    with transaction(portal.factory) as db:
        for number in range(60):
            audit.record(db, actor_id=ann.id, project_id=tone.id, action="round.request", subject=f"round:{number}")
        audit.record(
            db, actor_id=None, project_id=tone.id, action="version.promote", subject="version:1", by="<b>gate</b>"
        )
        audit.record(db, actor_id=site.id, project_id=other.id, action="project.update", subject="project:other")
        audit.record(db, actor_id=site.id, project_id=None, action="user.sign_in", subject="user:site")
    mine = portal.browser(ann)
    page = mine.get("/p/tone/audit").text
    assert "Hone itself" in page
    assert "&lt;b&gt;gate&lt;/b&gt;" in page
    assert "project:other" not in page
    assert "user.sign_in" not in page
    assert page.count("round:") == 49
    assert 'rel="next"' in page
    assert "round:59" not in mine.get("/p/tone/audit?kind=version").text
    assert mine.get("/p/tone/audit?kind=nonsense").status_code == 422
    assert mine.get("/admin/audit").status_code in (303, 403)
    everything = portal.browser(site).get("/admin/audit").text
    assert "user.sign_in" in everything
    assert "project:other" in everything
    reviewer = portal.browser(portal.member(tone, "rev@example.org"))
    assert reviewer.get("/p/tone/audit").status_code == 403


def test_the_log_comes_in_pages_over_the_api(portal: Portal) -> None:
    site, ann = portal.user("site@example.org", is_site_admin=True), portal.user("ann@example.org")
    tone = portal.project("Tone", ann)
    with transaction(portal.factory) as db:
        db.get_one(Project, tone.id)
        for number in range(5):
            audit.record(db, actor_id=ann.id, project_id=tone.id, action="round.request", subject=f"round:{number}")
    told, cursor = [], None
    while True:
        query = f"?limit=2{f'&cursor={cursor}' if cursor else ''}"
        page = portal.token(ann).get(f"/api/v1/projects/tone/audit{query}").json()
        told += [line["subject"] for line in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert told[:5] == [f"round:{number}" for number in range(4, -1, -1)]
    assert portal.token(ann).get("/api/v1/audit").status_code == 403
    assert {line["project"] for line in portal.token(site).get("/api/v1/audit").json()["items"]} == {"tone"}


def test_whoever_takes_the_votes_along_is_in_it(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    portal.project("Tone", ann)
    assert portal.browser(ann).get("/p/tone/export?format=votes").status_code == 200
    assert portal.token(ann).get("/api/v1/projects/tone/export?format=trl&split=train").status_code == 200
    told = portal.token(ann).get("/api/v1/projects/tone/audit").json()["items"]
    exports = [(line["who"], line["data"]) for line in told if line["action"] == "preferences.export"]
    assert exports == [
        (ann.name or ann.email, {"format": "trl", "split": "train"}),
        (ann.name or ann.email, {"format": "votes", "split": "all"}),
    ]
