"""A project that is put aside: what it refuses, what can still be read, and how it comes back."""

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.comparisons.service import lease_next
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import (
    AuditEntry,
    CompletionLabel,
    OutboxMessage,
    PlaygroundTurn,
    Project,
    Prompt,
    Round,
    Version,
    Vote,
)
from app.playground import service as playground
from app.projects.archived import ProjectArchivedError
from app.rounds import service as rounds
from app.rounds.deciding import open_gates
from app.rounds.due import Looked, look
from app.rounds.errors import RoundAlreadyActiveError
from tests.factories import rows
from tests.factories.loops import make_loop
from tests.fixtures.portal import Caller, Portal

HTMX = {"HX-Request": "true"}


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers with a version and two pairs."""
    user = portal.user("ann@example.org", is_site_admin=True)
    project = portal.project("Tone", user)
    with transaction(portal.factory) as db:
        here = db.merge(project)
        version = rows.make_version(db, here, number=1)
        for _ in range(2):
            rows.make_comparison(db, here, version=version)
    return portal.browser(user)


def project_of(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project).where(Project.slug == "tone")).one()


def put_aside(portal: Portal) -> None:
    with transaction(portal.factory) as db:
        rounds.archive(db, db.scalars(select(Project).where(Project.slug == "tone")).one())


def test_an_admin_archives_it_on_its_settings_page_and_takes_it_back(portal: Portal, ann: Caller) -> None:
    bo = portal.browser(portal.member(project_of(portal), "bo@example.org"))
    page = ann.get("/p/tone/settings").text
    assert 'action="/p/tone/settings/archive"' in page
    assert 'class="confirm-panel"' in page, "it is asked first"
    assert bo.post("/p/tone/settings/archive").status_code == 403
    assert ann.post("/p/tone/settings/archive").headers["location"] == "/p/tone/settings"
    ann.post("/p/tone/settings/archive")
    assert "takes no votes, prompts or rounds" in ann.get("/p/tone").text
    assert 'action="/p/tone/settings/restore"' in ann.get("/p/tone/settings").text
    for caller in (ann, bo):
        listed = caller.get("/").text
        assert '<a href="/p/tone"' not in listed
        assert 'href="/?archived=1"' in listed
        assert '<a href="/p/tone"' in caller.get("/?archived=1").text
    assert ann.post("/p/tone/settings/restore").headers["location"] == "/p/tone/settings"
    assert ann.get("/").headers["location"] == "/p/tone"
    with portal.db() as db:
        acts = select(AuditEntry.action).where(AuditEntry.action.in_(("project.archive", "project.restore")))
        assert db.scalars(acts.order_by(AuditEntry.id)).all() == ["project.archive", "project.restore"]


def test_the_api_does_the_same(portal: Portal, ann: Caller) -> None:
    key = portal.token(portal.user("root@example.org", is_site_admin=True))
    assert key.get("/api/v1/projects/tone").json()["archived_at"] is None
    assert key.post("/api/v1/projects/tone/archive", json={}).json()["archived_at"] is not None
    assert key.get("/api/v1/projects").json()["items"] == []
    assert [item["slug"] for item in key.get("/api/v1/projects?archived=true").json()["items"]] == ["tone"]
    assert key.post("/api/v1/projects/tone/restore", json={}).json()["archived_at"] is None
    assert [item["slug"] for item in key.get("/api/v1/projects").json()["items"]] == ["tone"]


def test_it_waits_for_a_round_to_end(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        db.add(Round(project_id=project.id, number=7, trigger="button", state="training"))
    refused = ann.post("/p/tone/settings/archive")
    assert refused.status_code == 409
    assert "Round 7 is training." in refused.text
    assert project_of(portal).archived_at is None


def test_no_choice_comes_in_and_one_that_was_acknowledged_stays_so(portal: Portal, ann: Caller) -> None:
    member = portal.member(project_of(portal), "bo@example.org")
    bo, key = portal.browser(member), portal.token(member)
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        first = lease_next(db, project=project, reviewer_id=member.id)
        assert first is not None
    vote = {"choice": "a"}
    address = f"/api/v1/comparisons/{first.comparison_id}/votes"
    acknowledged = key.post(address, json=vote, headers={"Idempotency-Key": "k1"})
    assert acknowledged.status_code == 201
    pair = key.post("/api/v1/projects/tone/comparisons/next", json={}).json()
    put_aside(portal)

    page = bo.get("/p/tone/compare").text
    assert "This project is archived" in page
    assert "data-lease" not in page
    assert bo.get("/p/tone/compare?waiting=archived", headers=HTMX).status_code == 204
    assert "This project is archived" in bo.get("/p/tone").text
    refusals = [
        key.post("/api/v1/projects/tone/comparisons/next", json={}),
        key.post(f"/api/v1/comparisons/{pair['id']}/votes", json=vote),
        key.post(address, json={"choice": "b"}),
        key.client.delete(f"{address}/mine"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refusals] == [(409, "project_archived")] * 4
    assert "An admin of the project can restore it" in refusals[0].json()["mend"]
    again = key.post(address, json=vote, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()["id"]) == (201, acknowledged.json()["id"])
    with portal.db() as db:
        assert len(db.scalars(select(Vote)).all()) == 1


def test_no_feedback_and_no_prompts_come_in(portal: Portal, ann: Caller) -> None:
    member = portal.member(project_of(portal), "bo@example.org", "admin")
    key, browser = portal.token(member), portal.browser(member)
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        prompt, version = rows.make_prompt(db, project, source="chat"), db.scalars(select(Version)).one()
        chat, _ = rows.make_chat(db, prompt, member, version=version, texts=("One.", "Two."))
        before = len(db.scalars(select(Prompt)).all())
    put_aside(portal)
    one, two = {"id": chat, "index": 0}, {"id": chat, "index": 1}
    refusals: list[Any] = [
        key.post("/v1/feedback", json={"answer": one, "thumb": "up"}),
        key.post("/v1/feedback", json={"a": one, "b": two, "choice": "a"}),
        key.post("/api/v1/projects/tone/prompts", json={"prompts": [{"prompt": "Hello?"}]}),
        browser.post("/p/tone/prompts/new", {"prompt": "Hello?"}),
        browser.client.post(
            "/p/tone/prompts/upload",
            data={"csrf_token": browser.csrf},
            files={"file": ("a.jsonl", '{"prompt": "Hi?"}')},
        ),
        browser.post("/p/tone/playground", {"text": "Hello?"}),
    ]
    assert [answer.status_code for answer in refusals] == [409] * len(refusals)
    assert all("archived" in answer.text for answer in refusals)
    with portal.db() as db:
        assert len(db.scalars(select(Prompt)).all()) == before
        assert db.scalars(select(CompletionLabel)).all() == []
        assert db.scalars(select(PlaygroundTurn)).all() == []


def test_what_is_there_can_be_read_and_taken_along(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        rows.make_vote(db, rows.make_comparison(db, project))
    put_aside(portal)
    pages = ("", "/answers", "/playground", "/prompts", "/rounds", "/versions", "/preferences", "/reviewers", "/audit")
    for page in (*pages, "/flagged", "/members", "/settings", "/settings/reviewing", "/settings/queue"):
        assert ann.get(f"/p/tone{page}").status_code == 200, page
    assert ann.get("/p/tone/export?format=votes").text.count("\n") == 1


def test_a_question_that_was_open_in_the_playground_becomes_no_vote(db: Session) -> None:
    project = rows.make_project(db)
    rows.make_version(db, project, number=1)
    person = rows.make_member(db, project)
    rng = random.Random(3)
    turns = [
        playground.open_turn(db, project, person.id, question, max_chars=100, rng=rng) for question in ("Hi?", "Who?")
    ]
    for turn in turns:
        playground.start_writing(db, turn)
        db.refresh(turn)
    playground.choose(db, project, turns[0], "b", 3.0, rng)
    rounds.archive(db, project)
    with pytest.raises(ProjectArchivedError):
        playground.choose(db, project, turns[1], "a", 3.0, rng)
    answers = {
        side: {"text": side, "ids": [number, 2], "prompt_ids": [1], "end": "eos", "sampling": {}, "storable": True}
        for number, side in enumerate("ab", start=10)
    }
    assert playground.finish_writing(db, turns[0].id, answers, rng=rng) == "done"
    assert db.scalars(select(Vote)).all() == []


def test_no_round_starts_by_whatever_asks_for_it(db: Session) -> None:
    project, version = make_loop(db, votes=30, round_every_votes=10, round_schedule="0 3 * * *")
    failed = Round(project_id=project.id, number=4, trigger="button", state="failed", parent_id=version.id)
    db.add(failed)
    candidate = rows.make_version(db, project, number=2, state="candidate", gate_state="open")
    db.flush()
    assert open_gates(db) == [(candidate.id, project.id)]
    project.next_round_at = utcnow() - timedelta(minutes=1)
    db.flush()
    rounds.archive(db, project)
    assert look(db) == Looked()
    assert open_gates(db) == []
    for ask in (
        lambda: rounds.request_round(db, project, trigger="button"),
        lambda: rounds.request_import(db, project),
        lambda: rounds.retry(db, failed),
    ):
        with pytest.raises(ProjectArchivedError):
            ask()
    rounds.restore(db, project)
    assert project.next_round_at is not None
    assert project.next_round_at > utcnow(), "what was due meanwhile is not made up for"
    assert project.next_round_at <= utcnow() + timedelta(days=1)
    refills = select(OutboxMessage.args).where(OutboxMessage.task == "hone.refill")
    assert [str(project.id)] in db.scalars(refills).all()
    assert rounds.request_round(db, project, trigger="button").state == "queued"


def test_a_round_asked_for_meanwhile_sees_that_it_is_archived(db: Session) -> None:
    """The request has read the project before; what counts is what stands there once it has its lock."""
    project, _ = make_loop(db, votes=30)
    change = update(Project).where(Project.id == project.id).values(archived_at=text("now()"))
    db.execute(change.execution_options(synchronize_session=False))
    assert project.archived_at is None
    with pytest.raises(ProjectArchivedError):
        rounds.request_round(db, project, trigger="button")


def test_archiving_sees_a_round_that_was_asked_for_meanwhile(db: Session) -> None:
    project, _ = make_loop(db, votes=30)
    rounds.request_round(db, project, trigger="button")
    with pytest.raises(RoundAlreadyActiveError) as refused:
        rounds.archive(db, project)
    assert "cancel it" in refused.value.mend
    assert project.archived_at is None
