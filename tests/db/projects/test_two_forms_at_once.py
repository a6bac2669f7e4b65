"""A form of settings that comes back for two reasons at once: somebody else was first, and a field is wrong."""

import re

import pytest

from app.db.session import transaction
from app.db.tables import Project, User
from app.projects import forms
from app.projects.service import update_project
from tests.fixtures.portal import Caller, Portal, marks

FIRST = "Somebody else has changed the same settings meanwhile."


@pytest.fixture
def lead(portal: Portal) -> User:
    return portal.user("lead@example.org")


@pytest.fixture
def project(portal: Portal, lead: User) -> Project:
    return portal.project("Tone", lead)


@pytest.fixture
def ann(portal: Portal, lead: User) -> Caller:
    return portal.browser(lead)


def stored(portal: Portal, project: Project) -> Project:
    with portal.db() as db:
        return db.get_one(Project, project.id)


def error_at(page: str, field: str) -> str:
    found = re.search(rf'id="{re.escape(field)}-error"[^>]*>([^<]*)<', page)
    return found[1] if found else ""


def somebody_else(portal: Portal, project: Project, **changes: object) -> None:
    with transaction(portal.factory) as db:
        update_project(db, db.get_one(Project, project.id), **changes)


def test_of_settings(portal: Portal, project: Project, ann: Caller) -> None:
    page = ann.get("/p/tone/settings").text
    values = forms.of_project(stored(portal, project)).values | {"shown": marks(page)}
    somebody_else(portal, project, guidelines="Be brief.")
    mine = values | {"guidelines": "Be witty.", "buffer_size": "soon", "round_schedule": "at noon"}
    answer = ann.post("/p/tone/settings", mine)
    assert answer.status_code == 409
    assert FIRST in answer.text
    assert "Be brief.</p>" in answer.text
    assert error_at(answer.text, "buffer_size")
    assert error_at(answer.text, "round_schedule")
    assert len(re.findall(r'<li><a href="#(?:buffer_size|round_schedule)">', answer.text)) == 2, "they are listed"
    assert answer.text.count("data-focus") == 1
    assert stored(portal, project).guidelines == "Be brief."
    settled = mine | {"shown": marks(answer.text), "buffer_size": "30", "round_schedule": ""}
    assert ann.post("/p/tone/settings", settled).status_code == 303
    assert (stored(portal, project).guidelines, stored(portal, project).buffer_size) == ("Be witty.", 30)


def test_of_settings_that_only_clash(portal: Portal, project: Project, ann: Caller) -> None:
    page = ann.get("/p/tone/settings").text
    values = forms.of_project(stored(portal, project)).values | {"shown": marks(page)}
    somebody_else(portal, project, guidelines="Be brief.")
    answer = ann.post("/p/tone/settings", values | {"guidelines": "Be witty."})
    assert (answer.status_code, FIRST in answer.text) == (409, True)
    assert "cannot be used yet" not in answer.text
    assert stored(portal, project).guidelines == "Be brief.", "looking for what is wrong writes nothing"


def test_of_what_reviewers_are_asked(portal: Portal, project: Project, ann: Caller) -> None:
    shown = marks(ann.get("/p/tone/settings/reviewing").text)
    somebody_else(portal, project, reviewing={"tags": ["Wrong"]})
    mine = {"mode": "pairwise", "answers": "99", "scale": "choice", "comment": "optional", "skip_reason": "optional"}
    answer = ann.post("/p/tone/settings/reviewing", mine | {"tags": "Rude", "shown": shown})
    assert (answer.status_code, FIRST in answer.text) == (409, True)
    assert error_at(answer.text, "answers")
    assert "Correct the fields that are marked." in answer.text
    assert stored(portal, project).reviewing["tags"] == ["Wrong"]


@pytest.mark.parametrize(
    ("page", "setting", "theirs", "field", "wrong"),
    [
        ("queue", "queue", {"order": "newest"}, "gold_percent", "400"),
        ("preferences", "aggregation", {"ties": "drop"}, "half_life_days", "-1"),
    ],
)
def test_of_queue_and_preferences(
    portal: Portal,
    project: Project,
    ann: Caller,
    page: str,
    setting: str,
    theirs: dict[str, str],
    field: str,
    wrong: str,
) -> None:
    before = ann.get(f"/p/tone/settings/{page}").text
    assert f'name="{field}"' in before
    (name, now), = theirs.items()  # fmt: skip
    somebody_else(portal, project, **{setting: theirs})
    other = {"order": "random", "ties": "wrong as well"}[name]
    answer = ann.post(f"/p/tone/settings/{page}", {name: other, field: wrong, "shown": marks(before)})
    assert (answer.status_code, FIRST in answer.text) == (409, True)
    assert error_at(answer.text, field)
    assert "Correct the fields that are marked." in answer.text
    assert getattr(stored(portal, project), setting)[name] == now
