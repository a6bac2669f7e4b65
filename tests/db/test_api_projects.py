"""Projects through the API: what a program sends and what it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.comparisons import refill_counts
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import OutboxMessage, Project, Round
from tests.factories import rows
from tests.fixtures.portal import Portal

URL = "/api/v1/projects"


def problems(answer: Any) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return {item["field"]: item["message"] for item in answer.json()["errors"]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that looks like a model."""
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "model.safetensors").write_bytes(b"")
    return directory


def test_a_site_admin_makes_a_project_and_its_import_is_queued(portal: Portal, model: Path) -> None:
    ann = portal.token(portal.user("ann@example.org", is_site_admin=True))
    answer = ann.post(URL, json={"name": "Tone", "base_model": str(model), "training": {"loss": "dpop"}})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{URL}/tone"
    assert answer.json()["training"]["loss_settings"] == {"beta": 0.3, "dpop_lambda": 50.0}
    with portal.db() as db:
        round_ = db.scalars(select(Round)).one()
        assert (round_.number, round_.kind, round_.state, round_.trigger) == (0, "import", "queued", "setup")
        assert db.scalars(select(OutboxMessage.task)).all() == ["hone.run_rounds"]
    assert ann.get(f"{URL}/tone").json() == answer.json()
    assert [item["slug"] for item in ann.get(URL).json()["items"]] == ["tone"]


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"training": {"loss": "magic"}}, "training.loss", "known are sigmoid, dpop"),
        ({"training": {"loss_settings": {"dpop_lambda": 1}}}, "training.loss_settings.dpop_lambda", "does not read it"),
        ({"base_model": "/no/such/model"}, "base_model", "does not exist on the server"),
        ({"base_model": "model"}, "base_model", "neither a hub id"),
        ({"round_schedule": "hourly"}, "round_schedule", "a crontab has 5"),
        ({"buffer_size": 0}, "buffer_size", "greater than or equal to 1"),
        ({"sampling": {"temperature": 3}}, "sampling.temperature", "less than or equal to 2"),
        ({"colour": "red"}, "colour", "not permitted"),
    ],
)
def test_bad_settings_are_named(portal: Portal, values: dict[str, Any], field: str, says: str) -> None:
    ann = portal.token(portal.user("ann@example.org", is_site_admin=True))
    answer = ann.post(URL, json={"name": "Tone", "base_model": "owner/model"} | values)
    assert answer.status_code == 422
    assert list(problems(answer)) == [field]
    assert says in problems(answer)[field]
    with portal.db() as db:
        assert db.scalars(select(Project)).all() == []
        assert db.scalars(select(Round)).all() == []


def test_a_model_directory_without_safetensors_is_refused_with_the_way_out(portal: Portal, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    ann = portal.token(portal.user("ann@example.org", is_site_admin=True))
    answer = ann.post(URL, json={"name": "Tone", "base_model": str(model)})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_project"
    assert "convert to safetensors" in problems(answer)["base_model"]


def test_only_site_admins_make_projects(portal: Portal) -> None:
    answer = portal.token(portal.user("bo@example.org")).post(URL, json={"name": "T", "base_model": "o/m"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_settings_change_one_by_one(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    portal.project("Tone", ann, buffer_size=7)
    client = portal.token(ann).client
    changed = client.patch(f"{URL}/tone", json={"round_every_votes": 50, "name": "Voice"})
    assert changed.status_code == 200
    shown = changed.json()
    assert (shown["name"], shown["slug"], shown["buffer_size"], shown["round_every_votes"]) == ("Voice", "tone", 7, 50)
    assert client.patch(f"{URL}/tone", json={"round_every_votes": None}).json()["round_every_votes"] is None
    refused = client.patch(f"{URL}/tone", json={"lease_seconds": 5, "promotion": "never"})
    assert problems(refused)["lease_seconds"] == "must be at least 10, not 5"
    assert "'never'" in problems(refused)["promotion"]
    assert client.patch(f"{URL}/tone", json={"slug": "other"}).status_code == 422
    with portal.db() as db:
        rows.make_version(db, db.scalars(select(Project)).one(), number=1)
        db.commit()
    fixed = client.patch(f"{URL}/tone", json={"base_model": "owner/other"})
    assert (fixed.status_code, fixed.json()["code"]) == (409, "base_model_fixed")


def test_other_peoples_projects_do_not_exist(portal: Portal) -> None:
    ann, bo = portal.user("ann@example.org"), portal.user("bo@example.org")
    portal.project("Tone", ann)
    portal.project("Other", bo)
    client = portal.token(ann)
    assert client.get(f"{URL}/tone").status_code == 200
    hidden, missing = client.get(f"{URL}/other"), client.get(f"{URL}/nothing")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["code"] == missing.json()["code"] == "not_found"
    assert [item["slug"] for item in client.get(URL).json()["items"]] == ["tone"]


def test_projects_come_in_pages(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    for number in range(3):
        portal.project(f"Project {number}", ann)
    client = portal.token(ann)
    first = client.get(URL, params={"limit": 2}).json()
    second = client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["slug"] for item in first["items"] + second["items"]] == ["project-2", "project-1", "project-0"]
    assert second["next_cursor"] is None


def test_members_are_set_and_removed(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    bo = portal.user("bo@example.org")
    portal.project("Tone", ann)
    client = portal.token(ann).client
    url = f"{URL}/tone/members"
    assert client.put(url, json={"email": "BO@example.org", "role": "reviewer"}).json()["role"] == "reviewer"
    assert [item["email"] for item in client.get(url).json()] == ["ann@example.org", "bo@example.org"]
    unknown = client.put(url, json={"email": "nobody@example.org", "role": "admin"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_person")
    last = client.delete(f"{url}/{ann.id}")
    assert (last.status_code, last.json()["code"]) == (409, "last_admin")
    assert client.delete(f"{url}/{bo.id}").status_code == 204
    assert client.delete(f"{url}/{bo.id}").status_code == 404
    assert client.put(url, json={"email": "bo@example.org", "role": "owner"}).status_code == 422


def test_members_come_in_pages_where_that_is_asked_for(portal: Portal) -> None:
    ann = portal.user("m@example.org")
    portal.project("Tone", ann)
    client = portal.token(ann).client
    url = f"{URL}/tone/members"
    for email, role in (("z@example.org", "admin"), ("b@example.org", "reviewer"), ("y@example.org", "reviewer")):
        portal.user(email)
        assert client.put(url, json={"email": email, "role": role}).status_code == 200
    whole = client.get(url)
    everybody = [item["email"] for item in whole.json()]
    assert everybody == ["m@example.org", "z@example.org", "b@example.org", "y@example.org"]
    assert "x-next-cursor" not in whole.headers
    first = client.get(url, params={"limit": 2})
    assert [item["email"] for item in first.json()] == everybody[:2]
    cursor = {"cursor": first.headers["x-next-cursor"]}
    assert client.delete(f"{url}/{first.json()[1]['user_id']}").status_code == 204
    second = client.get(url, params=cursor | {"limit": 2})
    assert [item["email"] for item in second.json()] == everybody[2:], "the one at the cursor may have gone"
    assert "x-next-cursor" not in second.headers
    assert client.get(url, params=cursor).json() == second.json()
    for wrong in ("nonsense", "bm90aGluZw", "WzEsMl0", "WyJyZXZpZXdlciJd"):
        refused = client.get(url, params={"cursor": wrong})
        assert (refused.status_code, refused.json()["field"]) == (422, "cursor")


def test_how_pairs_are_chosen_is_set_and_read_back_with_its_defaults(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    portal.project("Tone", ann)
    client = portal.token(ann).client
    before = client.get(f"{URL}/tone").json()
    assert before["refilling"]["strategy"] == "random"
    assert before["refilling"]["exploration"] is None
    assert before["gate"] == {
        "comparisons": 40, "min_win_rate": 0.4, "min_accuracy": 0.5, "max_kl": 50.0, "max_length_ratio": 2.0,
    }  # fmt: skip
    changed = client.patch(f"{URL}/tone", json={"refilling": {"strategy": "uncertainty", "previous_percent": 20}})
    refilling = changed.json()["refilling"]
    assert (refilling["exploration"], refilling["pool_factor"], refilling["previous_percent"]) == (0.2, 3, 20)
    again = client.patch(f"{URL}/tone", json={"refilling": refilling})
    assert (again.status_code, again.json()["refilling"]) == (200, refilling), "what was read can be sent back"


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"refilling": {"strategy": "best"}}, "refilling.strategy", "'random', 'uncertainty', 'information'"),
        ({"refilling": {"exploration": 0.5}}, "refilling.exploration", "strategy 'random' does not read it"),
        ({"refilling": {"strategy": "diversity", "exploration": 0}}, "refilling.exploration", "above 0, not 0"),
        ({"refilling": {"pool_factor": 4}}, "refilling.pool_factor", "strategy 'random' does not read it"),
        ({"refilling": {"previous_percent": 60, "candidate_percent": 40}}, "refilling", "at most 90 together"),
        ({"refilling": {"pairs_per_prompt": 2}}, "refilling.pairs_per_prompt", "2 answers to a prompt make at most 1"),
        (
            {"refilling": {"pairs_per_prompt": 2}, "reviewing": {"mode": "ranking", "answers": 4}},
            "refilling.pairs_per_prompt",
            "a ranking has all answers in it",
        ),
        ({"refilling": {"similarity": 0.2}}, "refilling.similarity", "at least 0.5, not 0.2"),
        ({"gate": {"comparisons": -1}}, "gate.comparisons", "at least 0, not -1"),
        ({"gate": {"min_win_rate": 60}}, "gate.min_win_rate", "at most 1, not 60"),
        ({"gate": {"speed": 1}}, "gate.speed", "no such setting"),
    ],
)
def test_what_cannot_be_chosen_is_refused_by_name(portal: Portal, body: Any, field: str, says: str) -> None:
    ann = portal.user("ann@example.org")
    portal.project("Tone", ann)
    answer = portal.token(ann).client.patch(f"{URL}/tone", json=body)
    assert answer.status_code == 422
    assert says in problems(answer)[field]


def test_an_admins_program_sees_how_the_refill_is_doing(portal: Portal) -> None:
    ann = portal.user("ann@example.org")
    project = portal.project("Tone", ann)
    with transaction(portal.factory) as db:
        stored = db.get_one(Project, project.id)
        version = rows.make_version(db, stored, number=1)
        rows.make_comparison(db, stored, version=version)
        refill_counts.add(db, project_id=stored.id, version_id=version.id, counts={"sampled": 4, "empty": 1})
        stored.refill_problem = stored.refill_last_error = "The engine is down."
        stored.refill_failures, stored.refill_last_error_at = 2, utcnow()
    state = portal.token(ann).client.get(f"{URL}/tone/refill").json()
    assert (state["state"], state["ready"], state["target"], state["failures"]) == ("waiting", 1, 24, 2)
    assert (state["problem"], state["last_error"]) == ("The engine is down.", "The engine is down.")
    assert (state["counts"]["sampled"], state["counts"]["empty"], state["counts"]["looping"]) == (4, 1, 0)
    assert state["waiting"] == {"current": 1}
    reviewer = portal.token(portal.member(project, "bo@example.org")).client
    assert reviewer.get(f"{URL}/tone/refill").status_code == 403


def test_reviewers_are_not_told_where_things_lie_nor_how_they_are_checked(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    tone = portal.project("Tone", ann)
    with transaction(portal.factory) as db:
        project = db.get_one(Project, tone.id)
        project.base_model, project.queue = "/srv/models/secret-place/llama", {"gold_percent": 20}
        project.training = {**project.training, "nodes": 2, "rendezvous": "10.0.0.7:29500"}
    reviewer = portal.token(portal.member(tone, "rev@example.org"))
    for told in (reviewer.get(f"{URL}/tone").json(), reviewer.get(URL).json()["items"][0]):
        assert (told["base_model"], told["queue"], "rendezvous" in told["training"]) == ("llama", {}, False)
    told = portal.token(ann).get(f"{URL}/tone").json()
    assert told["base_model"] == "/srv/models/secret-place/llama"
    assert (told["queue"], told["training"]["rendezvous"]) == ({"gold_percent": 20}, "10.0.0.7:29500")


def test_reviewers_read_but_do_not_change(portal: Portal) -> None:
    project = portal.project("Tone", portal.user("ann@example.org"))
    client = portal.token(portal.member(project, "bo@example.org")).client
    assert client.get(f"{URL}/tone").status_code == 200
    assert client.patch(f"{URL}/tone", json={"name": "Mine"}).status_code == 403
    assert client.get(f"{URL}/tone/members").status_code == 403


def test_the_api_describes_itself(portal: Portal) -> None:
    described = portal.token(portal.user("ann@example.org")).get("/api/openapi.json").json()
    ours = ("projects", "prompts", "rounds", "versions")
    seen = 0
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] not in ours:
                continue
            seen += 1
            assert len(operation["description"]) > 10, f"{method} {path} is not described"
            if "requestBody" in operation:
                reference = json.dumps(operation["requestBody"])
                name = reference.split("#/components/schemas/")[1].split('"')[0]
                assert described["components"]["schemas"][name].get("examples"), f"{name} has no example"
    assert seen >= 20


def test_the_guide_names_every_call(portal: Portal) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for path, operations in portal.app.openapi()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in guide, f"docs/api.md does not name {method.upper()} {path}"
