"""Who says on which machines a project trains: site admins, for the project and for a single round."""

import re
from typing import Any

import pytest
from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Project, Round
from app.projects import forms
from app.rounds.spec import MACHINE_SETTINGS, TrainingSettings
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

API = "/api/v1/projects/tone"
SET = {"processes": 8, "nodes": 2, "rendezvous": "10.0.0.5:29500"}
OTHERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"processes": 16}, {"processes"}),
    ({"nodes": 1, "rendezvous": None}, {"nodes", "rendezvous"}),
    ({"rendezvous": "10.6.6.6:29500"}, {"rendezvous"}),
]


@pytest.fixture
def project(portal: Portal) -> Project:
    """One whose machines a site admin has set, with a model and enough votes for a round."""
    made = portal.project("Tone", min_round_votes=2, training=TrainingSettings.from_dict(SET | {"epochs": 3}).to_dict())
    with transaction(portal.factory) as db:
        stored = db.get_one(Project, made.id)
        rows.make_version(db, stored, number=1, state="current")
        for _ in range(2):
            rows.make_vote(db, rows.make_comparison(db, stored))
    return made


@pytest.fixture
def program(portal: Portal, project: Project) -> Caller:
    """A token of the project's admin, who is no site admin."""
    return portal.token(portal.member(project, "ann@example.org", "admin"))


@pytest.fixture
def browser(portal: Portal, project: Project) -> Caller:
    return portal.browser(portal.member(project, "bo@example.org", "admin"))


@pytest.fixture
def site_admin(portal: Portal) -> Caller:
    return portal.token(portal.user("root@example.org", is_site_admin=True))


def stored(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project)).one()


def machines(training: dict[str, Any]) -> dict[str, Any]:
    return {name: training[name] for name in MACHINE_SETTINGS}


def rounds(portal: Portal) -> list[Round]:
    with portal.db() as db:
        return list(db.scalars(select(Round)))


def test_the_api_refuses_other_machines_from_a_projects_admin(portal: Portal, program: Caller) -> None:
    for others, names in OTHERS:
        for answer, code in (
            (program.client.patch(API, json={"training": SET | others}), "invalid_project"),
            (program.post(f"{API}/rounds", json={"training": others}), "invalid_round"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, code)
            (error,) = answer.json()["errors"]
            assert error["field"] in {f"training.{name}" for name in names}
            assert error["message"].startswith("only site admins set " + ", ".join(sorted(names)))
    assert machines(stored(portal).training) == SET
    assert rounds(portal) == []


def test_what_a_site_admin_set_stays_when_others_change_the_rest(portal: Portal, program: Caller) -> None:
    for training in ({"epochs": 5}, {"epochs": 5} | SET):
        changed = program.client.patch(API, json={"training": training})
        assert changed.status_code == 200, changed.text
        assert machines(changed.json()["training"]) == SET
    started = program.post(f"{API}/rounds", json={"training": {"processes": 8, "epochs": 1}})
    assert started.status_code == 202, started.text
    assert (machines(started.json()["settings"]), started.json()["settings"]["epochs"]) == (SET, 1)


def test_a_site_admin_sets_them(portal: Portal, project: Project, site_admin: Caller) -> None:
    started = site_admin.post(f"{API}/rounds", json={"training": {"processes": 2}})
    assert started.status_code == 202, started.text
    assert machines(started.json()["settings"]) == SET | {"processes": 2}
    changed = site_admin.client.patch(API, json={"training": {"processes": 4}})
    assert machines(changed.json()["training"]) == {"processes": 4, "nodes": 1, "rendezvous": None}
    refused = site_admin.client.patch(API, json={"training": {"processes": 65}})
    assert refused.status_code == 422


def test_the_forms_show_them_to_a_projects_admin_and_change_none(portal: Portal, browser: Caller) -> None:
    for url, typed in (
        ("/p/tone/settings", forms.of_project(stored(portal)).values),
        ("/p/tone/rounds/new", forms.of_training(stored(portal).training).values),
    ):
        page = browser.get(url).text
        for name, value in SET.items():
            field = re.search(rf'<input[^>]*name="training.{name}"[^>]*>', page)
            assert field
            assert "readonly" in field[0]
            assert f'value="{value}"' in field[0]
        refused = browser.post(url, typed | {"training.processes": "64"})
        assert refused.status_code == 422
        assert 'id="training.processes-error">only site admins set processes' in refused.text
        emptied = {f"training.{name}": "" for name in SET}
        assert browser.post(url, typed | emptied | {"training.epochs": "7"}).status_code == 303
    assert (machines(stored(portal).training), stored(portal).training["epochs"]) == (SET, 7)
    assert [machines(round_.settings) for round_ in rounds(portal)] == [SET]


def test_the_forms_let_a_site_admin_change_them(portal: Portal, project: Project) -> None:
    admin = portal.browser(portal.user("root@example.org", is_site_admin=True))
    typed = forms.of_project(stored(portal)).values | {"training.processes": "4"}
    assert not re.search(r'name="training.processes"[^>]*readonly', admin.get("/p/tone/settings").text)
    assert admin.post("/p/tone/settings", typed).status_code == 303
    assert machines(stored(portal).training) == SET | {"processes": 4}
    typed = forms.of_training(stored(portal).training).values | {"training.processes": "2"}
    assert admin.post("/p/tone/rounds/new", typed).status_code == 303
    assert [machines(round_.settings) for round_ in rounds(portal)] == [SET | {"processes": 2}]
