"""Rounds and versions through the API."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.db.ids import new_id
from app.db.session import transaction
from app.db.tables import Project, Round, User, Version
from app.rounds import service
from app.versions.files import directory
from app.versions.manifest import VersionInfo, write_manifest
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

API = "/api/v1"


@dataclass
class Scene:
    """A project with a current version 1, and its admin."""

    portal: Portal
    project: Project
    admin: Caller

    def votes(self, count: int) -> None:
        """Counted votes on training prompts."""
        with transaction(self.portal.factory) as db:
            project = db.get_one(Project, self.project.id)
            for _ in range(count):
                rows.make_vote(db, rows.make_comparison(db, project))

    def version(self, state: str, *, number: int) -> Version:
        """A version with a directory that verifies."""
        id_ = new_id()
        folder = directory(self.portal.settings.versions_dir, id_)
        folder.mkdir(parents=True)
        VersionInfo(kind="full", context_length=64).write(folder)
        digest = write_manifest(folder)
        with transaction(self.portal.factory) as db:
            project = db.get_one(Project, self.project.id)
            return rows.make_version(db, project, number=number, state=state, id=id_, digest=digest)

    def states(self) -> dict[int, str]:
        """State by number of every version."""
        with self.portal.db() as db:
            return {row.number: row.state for row in db.query(Version)}


@pytest.fixture
def scene(portal: Portal) -> Scene:
    user = portal.user("ann@example.org")
    project = portal.project("Tone", user, min_round_votes=3)
    made = Scene(portal, project, portal.token(user))
    made.version("current", number=1)
    return made


def start(scene: Scene) -> Any:
    return scene.admin.post(f"{API}/projects/tone/rounds")


def fail(db: Session, round_id: str) -> None:
    db.execute(
        update(Round)
        .where(Round.id == round_id)
        .values(state="failed", error_code="out_of_memory", error="Lower tokens_per_row.", log_tail="boom")
    )


def test_too_few_votes_says_both_numbers(scene: Scene) -> None:
    scene.votes(2)
    answer = start(scene)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_few_votes")
    assert (answer.json()["votes"], answer.json()["needed"]) == (2, 3)


def test_a_round_is_started_followed_cancelled_and_only_one_at_a_time(scene: Scene) -> None:
    scene.votes(3)
    answer = start(scene)
    assert answer.status_code == 202
    url = answer.headers["location"]
    shown = scene.admin.get(url).json()
    assert (shown["state"], shown["number"], shown["trigger"]) == ("queued", 1, "api")
    assert [event["to_state"] for event in shown["events"]] == ["queued"]
    second = start(scene)
    assert (second.status_code, second.json()["code"]) == (409, "round_already_active")
    assert scene.admin.post(f"{url}/cancel").json()["state"] == "cancelled"
    assert scene.admin.post(f"{url}/cancel").json()["code"] == "round_not_active"
    assert scene.admin.post(f"{url}/retry").json()["code"] == "round_not_retryable"
    listed = scene.admin.get(f"{API}/projects/tone/rounds").json()
    assert [item["number"] for item in listed["items"]] == [1]


def test_a_failed_round_says_why_and_can_be_tried_again(scene: Scene) -> None:
    scene.votes(3)
    round_id = start(scene).json()["id"]
    with transaction(scene.portal.factory) as db:
        fail(db, round_id)
    shown = scene.admin.get(f"{API}/rounds/{round_id}").json()
    assert (shown["error_code"], shown["log_tail"]) == ("out_of_memory", "boom")
    assert "Lower tokens_per_row" in shown["error"]
    bo = scene.portal.token(scene.portal.member(scene.project, "bo@example.org"))
    assert bo.get(f"{API}/rounds/{round_id}").json()["log_tail"] is None
    again = scene.admin.post(f"{API}/rounds/{round_id}/retry").json()
    assert (again["state"], again["error"]) == ("queued", None)


def test_nobody_is_told_the_token_by_which_a_worker_holds_a_round(scene: Scene) -> None:
    scene.votes(3)
    round_id = start(scene).json()["id"]
    with transaction(scene.portal.factory) as db:
        claimed = service.claim(db, settings=scene.portal.settings)
        assert claimed is not None
        service.release(db, claimed.round.id, claimed.token, reason="the worker ends")
        ann = db.get_one(User, scene.admin.user_id)
    bo = scene.portal.member(scene.project, "bo@example.org")
    api = scene.portal.token(bo).get(f"{API}/rounds/{round_id}")
    page = scene.portal.browser(ann).get("/p/tone/rounds/1")
    assert (api.status_code, page.status_code) == (200, 200)
    events = {event["kind"]: event["data"] for event in api.json()["events"]}
    assert events["claimed"] == {"attempt": 1}
    assert events["released"] == {"reason": "the worker ends"}
    assert str(claimed.token) not in api.text + page.text


def test_without_a_model_there_is_no_round(portal: Portal) -> None:
    user = portal.user("ann@example.org")
    portal.project("Tone", user)
    answer = portal.token(user).post(f"{API}/projects/tone/rounds")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_current_version")


def test_versions_are_listed_promoted_and_rejected(scene: Scene) -> None:
    second, third = scene.version("candidate", number=2), scene.version("candidate", number=3)
    listed = scene.admin.get(f"{API}/projects/tone/versions", params={"limit": 2}).json()
    assert [item["number"] for item in listed["items"]] == [3, 2]
    rest = scene.admin.get(f"{API}/projects/tone/versions", params={"cursor": listed["next_cursor"]}).json()
    assert [(item["number"], item["state"]) for item in rest["items"]] == [(1, "current")]
    promoted = scene.admin.post(f"{API}/versions/{second.id}/promote")
    assert (promoted.status_code, promoted.json()["state"]) == (200, "current")
    again = scene.admin.post(f"{API}/versions/{second.id}/promote")
    assert (again.status_code, again.json()["code"]) == (409, "version_not_promotable")
    rejected = scene.admin.post(f"{API}/versions/{third.id}/reject", json={"reason": "Too long."})
    assert rejected.json()["state"] == "rejected"
    assert scene.states() == {1: "retired", 2: "current", 3: "rejected"}
    assert scene.admin.get(f"{API}/versions/{third.id}").json()["state"] == "rejected"


def test_a_damaged_version_is_never_promoted(scene: Scene) -> None:
    second = scene.version("candidate", number=2)
    (directory(scene.portal.settings.versions_dir, second.id) / "version.json").write_text("{}")
    answer = scene.admin.post(f"{API}/versions/{second.id}/promote")
    assert (answer.status_code, answer.json()["code"]) == (409, "version_damaged")
    assert scene.states() == {1: "current", 2: "candidate"}


def test_strangers_see_nothing_and_reviewers_change_nothing(scene: Scene) -> None:
    scene.votes(3)
    round_id = start(scene).json()["id"]
    version_id = scene.version("candidate", number=2).id
    stranger: User = scene.portal.user("eve@example.org")
    eve = scene.portal.token(stranger)
    bo = scene.portal.token(scene.portal.member(scene.project, "bo@example.org"))
    for url in (f"/rounds/{round_id}", f"/versions/{version_id}", "/projects/tone/rounds", "/projects/tone/versions"):
        assert bo.get(f"{API}{url}").status_code == 200
        assert eve.get(f"{API}{url}").status_code == 404
    for url in (
        "/projects/tone/rounds",
        f"/rounds/{round_id}/cancel",
        f"/rounds/{round_id}/retry",
        f"/versions/{version_id}/promote",
        f"/versions/{version_id}/reject",
    ):
        assert bo.post(f"{API}{url}").status_code == 403
        assert eve.post(f"{API}{url}").status_code == 404
    assert eve.get(f"{API}/rounds/nonsense").status_code == 422


def test_an_id_of_another_project_and_one_of_nothing_are_answered_alike(scene: Scene) -> None:
    scene.votes(3)
    ids = {"rounds": start(scene).json()["id"], "versions": scene.version("candidate", number=2).id}
    eve = scene.portal.token(scene.portal.user("eve@example.org"))

    def answer(kind: str, id_: object, action: str) -> tuple[int, Any]:
        call = eve.post if action else eve.get
        found = call(f"{API}/{kind}/{id_}{action}")
        return found.status_code, {name: value for name, value in found.json().items() if name != "request_id"}

    actions = {"rounds": ("", "/cancel", "/retry"), "versions": ("", "/promote", "/reject")}
    for kind, id_ in ids.items():
        for action in actions[kind]:
            there, nowhere = answer(kind, id_, action), answer(kind, uuid4(), action)
            assert there[0] == 404
            assert there == nowhere
