"""The forms of a project: made, changed, changed by two at once, and what is wrong named at its field."""

import re

import pytest
from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Project, Round
from app.projects import forms
from app.projects.form_sections import FIELDS
from tests.db.pages.scene import filled, ready, stored
from tests.fixtures.portal import Caller, Portal, marks


def test_a_project_is_made_by_the_form(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    page = admin.get("/projects/new").text
    names = set(re.findall(r'<(?:input|select|textarea) id="([^"]+)" name="\1"', page))
    assert names == set(FIELDS)
    data = filled(portal, **{"training.loss": "dpop", "training.learning_rate": "2e-4", "sampling.stop": "###\n\nEnd"})
    answer = admin.post("/projects/new", data)
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/new")
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
        assert (project.training["loss"], project.training["learning_rate"]) == ("dpop", 2e-4)
        assert project.sampling["stop"] == ["###", "End"]
        assert db.scalars(select(Round.kind)).all() == ["import"]
    assert "The base model is being imported" in admin.get("/p/new").text


def test_a_bad_form_comes_back_with_everything_typed_and_each_error_at_its_field(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    data = filled(
        portal,
        base_model="/no/such/model",
        buffer_size="many",
        round_schedule="daily",
        **{"training.loss": "sigmoid", "training.loss_settings.dpop_lambda": "5", "sampling.temperature": "0"},
    )
    answer = admin.post("/projects/new", data)
    assert answer.status_code == 422
    errors = dict(re.findall(r'<p class="error" id="([^"]+)-error">([^<]+)</p>', answer.text))
    assert set(errors) == {
        "base_model",
        "buffer_size",
        "round_schedule",
        "training.loss_settings.dpop_lambda",
        "sampling.temperature",
    }
    assert "does not exist on the server" in errors["base_model"]
    assert "does not read it; it reads beta" in errors["training.loss_settings.dpop_lambda"]
    assert 'value="/no/such/model"' in answer.text
    assert 'value="many"' in answer.text
    with portal.db() as db:
        assert db.scalars(select(Project)).all() == []


def test_the_settings_form_saves_what_it_shows(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.training = project.training | {"weight_decay": 0.05}
    before = stored(portal)
    values = forms.of_project(before).values
    assert ann.post("/p/tone/settings", values).status_code == 303
    after = stored(portal)
    for name in ("training", "sampling", "name", "guidelines", "round_schedule", "base_model"):
        assert getattr(after, name) == getattr(before, name), name
    changed = values | {"training.method": "full", "training.lora_rank": "", "training.lora_alpha": "",
                        "training.lora_dropout": "", "round_schedule": "0 3 * * *"}  # fmt: skip
    assert ann.post("/p/tone/settings", changed).status_code == 303
    after = stored(portal)
    assert after.training["method"] == "full"
    assert after.training["weight_decay"] == 0.05
    assert after.next_round_at is not None
    refused = ann.post("/p/tone/settings", changed | {"name": ""})
    assert refused.status_code == 422
    assert stored(portal).name == "Tone"


def test_a_second_form_writes_only_what_was_changed_in_it(portal: Portal, ann: Caller) -> None:
    shown = marks(ann.get("/p/tone/settings").text)
    values = forms.of_project(stored(portal)).values | {"shown": shown}
    assert ann.post("/p/tone/settings", values | {"guidelines": "Be brief."}).status_code == 303
    assert ann.post("/p/tone/settings", values | {"buffer_size": "30"}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.buffer_size) == ("Be brief.", 30)


def test_who_changes_what_somebody_else_has_changed_meanwhile_sees_both(portal: Portal, ann: Caller) -> None:
    values = forms.of_project(stored(portal)).values | {"shown": marks(ann.get("/p/tone/settings").text)}
    ann.post("/p/tone/settings", values | {"guidelines": "Be brief.", "buffer_size": "30"})
    mine = values | {"guidelines": "Be witty.", "promotion": "gate"}
    answer = ann.post("/p/tone/settings", mine)
    assert answer.status_code == 409
    assert "Somebody else has changed the same settings meanwhile." in answer.text
    assert "Be witty.</textarea>" in answer.text
    assert "Be brief.</p>" in answer.text
    assert 'name="buffer_size" type="text" value="30"' in answer.text
    assert 'value="gate" selected' in answer.text
    assert (stored(portal).guidelines, stored(portal).promotion) == ("Be brief.", "manual")
    assert ann.post("/p/tone/settings", mine | {"shown": marks(answer.text), "buffer_size": "30"}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.promotion, now.buffer_size) == ("Be witty.", "gate", 30)


def test_what_the_browser_hides_is_not_taken_for_a_change(portal: Portal, ann: Caller) -> None:
    """Of a method without LoRA the form sends no rank; somebody else has changed both meanwhile."""
    full = {"training.method": "full"} | dict.fromkeys(
        (f"training.lora_{name}" for name in ("rank", "alpha", "dropout", "dora", "rslora")), ""
    )
    ann.post("/p/tone/settings", forms.of_project(stored(portal)).values | full)
    shown = marks(ann.get("/p/tone/settings").text)
    values = forms.of_project(stored(portal)).values | {"shown": shown}
    ann.post("/p/tone/settings", values | {"training.method": "lora", "training.lora_rank": "32"})
    sent = {name: value for name, value in values.items() if not name.startswith("training.lora_")}
    assert ann.post("/p/tone/settings", sent | {"guidelines": "Be brief."}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.training["method"], now.training["lora_rank"]) == ("Be brief.", "lora", 32)


@pytest.mark.parametrize(
    ("typed", "kept"), [("0,85", 0.85), ("0.85", 0.85), ("1", 1.0), ("1,5", None), ("1.000", None), ("1,000.5", None)]
)
def test_numbers_are_read_and_shown_as_the_language_writes_them(
    portal: Portal, ann: Caller, typed: str, kept: float | None
) -> None:
    german = {"Accept-Language": "de"}
    before = ann.get("/p/tone/settings", headers=german).text
    assert 'name="refilling.similarity" type="text" value="0,9"' in before
    values = forms.of_project(stored(portal)).values | {"refilling.similarity": typed, "shown": marks(before)}
    answer = ann.post("/p/tone/settings", values, headers=german)
    if kept is None:
        assert answer.status_code == 422
        assert f'name="refilling.similarity" type="text" value="{typed}"' in answer.text
    else:
        assert answer.status_code == 303
        assert stored(portal).refilling["similarity"] == kept


def test_the_base_model_is_fixed_once_there_is_a_version(portal: Portal, ann: Caller) -> None:
    ready(portal)
    assert "Version 1 was made of it" in ann.get("/p/tone/settings").text
    values = forms.of_project(stored(portal)).values | {"base_model": "owner/other"}
    answer = ann.post("/p/tone/settings", values)
    assert answer.status_code == 422
    assert "Make a new project for another base model" in answer.text
    assert stored(portal).base_model == "owner/model"


def test_how_pairs_are_chosen_is_set_on_the_page(portal: Portal, ann: Caller) -> None:
    page = ann.get("/p/tone/settings").text
    shown = dict(re.findall(r'name="(refilling\.[a-z_]+|gate\.[a-z_]+)" type="text" value="([^"]*)"', page))
    assert shown["refilling.similarity"] == "0.9"
    assert shown["gate.comparisons"] == "40"
    form = {name: value for name, value in forms.of_project(stored(portal)).values.items() if value}
    chosen = {"refilling.strategy": "information", "refilling.exploration": "0.3", "gate.min_win_rate": "0.5"}
    assert ann.post("/p/tone/settings", form | chosen).status_code == 303
    project = stored(portal)
    assert (project.refilling["strategy"], project.refilling["exploration"]) == ("information", 0.3)
    assert project.refilling["pool_factor"] == 3
    assert project.gate["min_win_rate"] == 0.5
    refused = ann.post("/p/tone/settings", form | chosen | {"refilling.strategy": "random"})
    assert refused.status_code == 422
    assert "strategy &#39;random&#39; does not read it" in refused.text
