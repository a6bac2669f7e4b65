"""Every loss through the project's form, through the API, and for one round alone; typed, and refused by name."""

import re
from typing import Any

import pytest
from sqlalchemy import select

from app.comparisons.queries import votes_since_last_round
from app.db.session import transaction
from app.db.tables import AuditEntry, Project, Round, User
from app.projects import forms
from app.rounds import service
from app.rounds.spec import LOSSES, TrainingSettings, loss_options
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

API = "/api/v1"
URL = "/p/tone/rounds/new"


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """The admin of a project with a model and enough votes for a round."""
    user = portal.user("ann@example.org")
    project = portal.project(
        "Tone", user, min_round_votes=2, training=TrainingSettings.from_dict({"epochs": 3}).to_dict()
    )
    with transaction(portal.factory) as db:
        project = db.get_one(Project, project.id)
        rows.make_version(db, project, number=1, state="current")
        for _ in range(2):
            rows.make_vote(db, rows.make_comparison(db, project))
    return portal.browser(user)


@pytest.fixture
def token(portal: Portal, ann: Caller) -> Caller:
    """The same person with a token."""
    with portal.db() as db:
        return portal.token(db.get_one(User, ann.user_id))


def project(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project)).one()


def own(loss: str) -> dict[str, float]:
    """Settings of the loss, each moved off its default."""
    return {name: round(rule.default * 1.1 if rule.default else 0.1, 6) for name, rule in LOSSES[loss].settings.items()}


def test_every_loss_by_the_projects_form(portal: Portal, ann: Caller) -> None:
    values = forms.of_project(project(portal)).values
    page = ann.get("/p/tone/settings").text
    for loss, spec in LOSSES.items():
        assert f'<option value="{loss}"' in page
        settings = own(loss)
        typed = {name: "" for name in values if name.startswith("training.loss_settings.")}
        typed |= {f"training.loss_settings.{name}": str(value) for name, value in settings.items()}
        typed |= {f"training.{name}": "" for name in ("margin_scale", "pair_weighting", "reference_sync_steps")}
        typed |= {"training.f_divergence": "", "training.f_divergence_alpha": ""}
        if "pair_weighting" in loss_options(loss):
            typed |= {"training.pair_weighting": "wpo", "training.margin_scale": "0.5"}
        if spec.divergence:
            typed |= {"training.f_divergence": "alpha", "training.f_divergence_alpha": "0.3"}
        if spec.reference:
            typed |= {"training.reference_sync_steps": "100", "training.reference_sync_alpha": "0.5"}
        answer = ann.post("/p/tone/settings", values | typed | {"training.loss": loss})
        assert answer.status_code == 303, (loss, re.findall(r'error" id="([^"]+)">([^<]+)', answer.text))
        stored = project(portal).training
        assert (stored["loss"], stored["loss_settings"], stored["epochs"]) == (loss, settings, 3)
        assert stored.get("pair_weighting") == ("wpo" if "pair_weighting" in loss_options(loss) else None)
        assert stored.get("f_divergence_alpha") == (0.3 if spec.divergence else None)
        assert stored.get("reference_sync_steps") == (100 if spec.reference else None)


def test_another_loss_takes_its_own_default(portal: Portal, ann: Caller) -> None:
    """Not the number that stood there for the last one: β is 0.1 for DPO and 5 for the length-normalised one."""
    values = forms.of_project(project(portal)).values
    assert ann.post("/p/tone/settings", values | {"training.loss": "length_normalised"}).status_code == 303
    assert project(portal).training["loss_settings"] == {"beta": 5.0}
    values = forms.of_project(project(portal)).values | {"training.loss_settings.beta": "4"}
    assert ann.post("/p/tone/settings", values).status_code == 303
    assert forms.of_project(project(portal)).values["training.loss_settings.beta"] == "4"


def test_every_loss_by_the_api(portal: Portal, token: Caller) -> None:
    """As the project's, and as that of one round whose project has another."""
    for loss in LOSSES:
        training = {"loss": loss, "loss_settings": own(loss)}
        changed = token.client.patch(f"{API}/projects/tone", json={"training": training})
        assert changed.status_code == 200, changed.text
        assert changed.json()["training"]["loss_settings"] == own(loss)
        token.client.patch(f"{API}/projects/tone", json={"training": {"epochs": 2}})
        started = token.post(f"{API}/projects/tone/rounds", json={"training": training})
        assert started.status_code == 202, started.text
        settings = started.json()["settings"]
        assert (settings["loss"], settings["loss_settings"], settings["epochs"]) == (loss, own(loss), 2)
        assert token.post(f"{API}/rounds/{started.json()['id']}/cancel").status_code == 200
    assert project(portal).training["loss"] == "sigmoid"


def test_a_round_takes_one_number_from_the_caller_and_the_rest_from_the_project(portal: Portal, token: Caller) -> None:
    token.client.patch(
        f"{API}/projects/tone", json={"training": {"loss": "dpop", "loss_settings": {"beta": 0.5}, "epochs": 4}}
    )
    started = token.post(f"{API}/projects/tone/rounds", json={"training": {"loss_settings": {"dpop_lambda": 5}}}).json()
    assert started["settings"]["loss_settings"] == {"beta": 0.5, "dpop_lambda": 5.0}
    assert started["settings"]["epochs"] == 4
    with portal.db() as db:
        entry = db.scalars(select(AuditEntry).where(AuditEntry.action == "round.request")).one()
        assert entry.data["training"] == {"loss_settings": {"beta": 0.5, "dpop_lambda": 5.0}}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"loss": "best"}, "training.loss", "known are sigmoid, dpop"),
    ({"loss": "kto", "margin_scale": 1}, "training.margin_scale", "it reads beta, desirable_weight"),
    ({"loss": "simpo", "reference_sync_steps": 5}, "training.reference_sync_steps", "does not read it"),
    ({"reference_sync_alpha": 0.5}, "training.reference_sync_alpha", "set that, too"),
    ({"loss": "kto", "f_divergence": "js"}, "training.f_divergence", "does not read it"),
    ({"loss_settings": {"nu": 2}}, "training.loss_settings.nu", "it reads beta"),
    ({"loss": "robust", "loss_settings": {"label_smoothing": 0.5}}, "training.loss_settings.label_smoothing", "below"),
    ({"loss": 3}, "training.loss", "unknown"),
    ({"colour": "red"}, "training.colour", "unknown setting"),
]


def test_what_a_loss_does_not_read_is_refused_by_name(portal: Portal, token: Caller) -> None:
    for training, field, says in REFUSED:
        answer = token.post(f"{API}/projects/tone/rounds", json={"training": training})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_round")
        (error,) = answer.json()["errors"]
        assert error["field"] == field
        assert says in error["message"]
    with portal.db() as db:
        assert db.scalars(select(Round)).all() == []


def test_a_body_without_settings_and_one_that_is_none(token: Caller) -> None:
    assert token.post(f"{API}/projects/tone/rounds", json={"loss": "kto"}).status_code == 422
    assert token.post(f"{API}/projects/tone/rounds", json={}).status_code == 202


def test_a_round_with_other_settings_by_the_form(portal: Portal, ann: Caller) -> None:
    assert f'href="{URL}"' in ann.get("/p/tone/rounds").text
    page = ann.get(URL).text
    assert '<option value="sigmoid" selected>DPO</option>' in page
    assert re.search(r'name="training.epochs"[^>]*value="3"', page)
    assert 'name="base_model"' not in page
    typed = forms.of_training(project(portal).training).values | {"training.loss": "davidson", "training.epochs": "1"}
    refused = ann.post(URL, typed | {"training.loss_settings.nu": "-1"})
    assert refused.status_code == 422
    errors = dict(re.findall(r'<p class="error" id="([^"]+)-error">([^<]+)</p>', refused.text))
    assert errors.keys() == {"training.loss_settings.nu"}
    assert 'value="-1"' in refused.text
    answer = ann.post(URL, typed | {"training.loss_settings.nu": "0.5"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/tone/rounds/1")
    with portal.db() as db:
        round_ = db.scalars(select(Round)).one()
        assert round_.settings["loss_settings"] == {"beta": 0.1, "nu": 0.5}
        assert (round_.settings["epochs"], round_.trigger) == (1, "button")
    assert project(portal).training["loss"] == "sigmoid"
    assert "Round 1 is still queued." in ann.get(URL).text
    assert f'href="{URL}"' not in ann.get("/p/tone/rounds").text


def test_all_that_is_wrong_is_named_at_once(portal: Portal, ann: Caller, token: Caller) -> None:
    wrong = {"epochs": "0", "lora_rank": "x", "learning_rate": "-1", "loss_settings.beta": "-1"}
    typed = forms.of_training(project(portal).training).values
    for url, values in ((URL, typed), ("/p/tone/settings", forms.of_project(project(portal)).values)):
        refused = ann.post(url, values | {f"training.{name}": value for name, value in wrong.items()})
        assert refused.status_code == 422
        errors = dict(re.findall(r'<p class="error" id="([^"]+)-error">([^<]+)</p>', refused.text))
        assert errors.keys() == {f"training.{name}" for name in wrong}
        assert "Some fields cannot be used yet." in refused.text
    answer = token.post(f"{API}/projects/tone/rounds", json={"training": {"epochs": 0, "lora_rank": -1}})
    assert [error["field"] for error in answer.json()["errors"]] == ["training.lora_rank", "training.epochs"]


def test_what_was_typed_is_kept_where_no_round_can_start(portal: Portal, ann: Caller) -> None:
    """Too few votes: the form comes back with everything in it, and says what is missing."""
    with transaction(portal.factory) as db:
        db.scalars(select(Project)).one().min_round_votes = 5
    typed = forms.of_training(project(portal).training).values | {"training.epochs": "7", "training.seed": "123"}
    answer = ann.post(URL, typed)
    assert answer.status_code == 409
    assert re.search(r'name="training.epochs"[^>]*value="7"', answer.text)
    assert re.search(r'name="training.seed"[^>]*value="123"', answer.text)
    assert "No round was started.</strong> 2 new votes so far, a round needs 5." in answer.text


@pytest.mark.parametrize(("state", "buttons"), [("cancelled", False), ("failed", True)])
def test_a_round_that_made_nothing_is_started_again_with_its_settings_changed(
    portal: Portal, ann: Caller, state: str, buttons: bool
) -> None:
    """A slip, 200 epochs: cancelled (or failed), and the same votes are learned from with 2."""
    typed = forms.of_training(project(portal).training).values | {"training.epochs": "200", "training.loss": "ipo"}
    assert ann.post(URL, typed).status_code == 303
    with transaction(portal.factory) as db:
        claimed = service.claim(db, settings=portal.settings)
        assert claimed is not None
        service.prepare(db, claimed.round, claimed.token)
        assert votes_since_last_round(db, db.get_one(Project, claimed.round.project_id)) == 0
    with transaction(portal.factory) as db:
        if state == "cancelled":
            service.end_cancelled(db, claimed.round.id, claimed.token)
        else:
            service.fail(db, claimed.round.id, claimed.token, code="refused", message="…")
        # What the form does not show is that round's, too.
        round_ = db.get_one(Round, claimed.round.id)
        round_.settings = round_.settings | {"warmup_ratio": 0.25}
    page = ann.get("/p/tone/rounds/1").text
    again = f"{URL}?like=1"
    assert f'href="{again}">Start again with other settings</a>' in page
    assert ("Try again" in page) == buttons
    form = ann.get(again).text
    assert "Filled in are those of round 1." in form
    assert '<option value="ipo" selected>' in form
    filled = dict(re.findall(r'name="(training[^"]+)"[^>]*value="([^"]*)"', form))
    assert filled["training.epochs"] == "200"
    answer = ann.post(again, typed | {"training.epochs": "2"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/tone/rounds/2")
    with portal.db() as db:
        settings = db.scalars(select(Round).where(Round.number == 2)).one().settings
        assert (settings["epochs"], settings["loss"], settings["warmup_ratio"]) == (2, "ipo", 0.25)


@pytest.mark.parametrize("number", ["abc", "9", "-1", "1.0", "9" * 30, "٣"])
def test_a_number_that_no_round_has(ann: Caller, number: str) -> None:
    for answer in (
        ann.get(f"/p/tone/rounds/{number}"),
        ann.get(f"{URL}?like={number}"),
        ann.post(f"/p/tone/rounds/{number}/cancel", {}),
        ann.post(f"/p/tone/versions/{number}/promote", {}),
    ):
        assert answer.status_code == 404
    assert f"Tone has no round {number}." in ann.get(f"/p/tone/rounds/{number}").text


def test_the_form_says_of_every_loss_when_to_use_it_and_what_it_reads(ann: Caller) -> None:
    page = ann.get("/p/tone/settings").text
    for loss, spec in LOSSES.items():
        note = re.search(rf'<p class="hint note" [^>]*data-only-value="{loss}"( hidden)?>([^<]+)</p>', page)
        assert note, loss
        assert spec.use in note[2].replace("&#39;", "'")
        assert (note[1] is None) == (loss == "sigmoid")


def test_the_description_of_the_api_knows_every_setting(portal: Portal, token: Caller) -> None:
    """Types, ranges and defaults, and what each loss reads; for the project's settings and a round's alike."""
    schemas = token.get("/api/openapi.json").json()["components"]["schemas"]
    for name in ("ProjectIn", "RoundIn"):
        training = schemas[name]["properties"]["training"]
        epochs = training["properties"]["epochs"]
        assert epochs.pop("description")
        assert epochs == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1}
        reads = {rule["if"]["properties"]["loss"]["enum"][0]: rule["then"]["properties"] for rule in training["allOf"]}
        assert reads.keys() == LOSSES.keys()
        assert reads["kto"]["loss_settings"]["properties"].keys() == LOSSES["kto"].settings.keys()
        assert reads["kto"]["margin_scale"] is False
