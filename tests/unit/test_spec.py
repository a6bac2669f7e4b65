"""Settings of a job: checked in one place, none ignored, and the same after a round trip."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rounds.spec import (
    LOSS_SETTINGS,
    LOSSES,
    OPTIONS_OF_LOSSES,
    ExitCode,
    ModelRef,
    Spec,
    SpecError,
    TrainingSettings,
    loss_options,
    problems,
    training_schema,
)

START = ModelRef("/versions/one", "d1", "one")


def test_defaults_are_complete() -> None:
    settings = TrainingSettings.from_dict({})
    assert (settings.loss, settings.loss_settings) == ("sigmoid", {"beta": 0.1})
    assert (settings.method, settings.learning_rate, settings.lora_targets) == ("lora", 1e-4, "all-linear")


def test_a_loss_brings_its_own_defaults_and_full_training_a_smaller_rate() -> None:
    settings = TrainingSettings.from_dict({"loss": "dpop", "method": "full", "loss_settings": {"beta": 0.5}})
    assert settings.loss_settings == {"beta": 0.5, "dpop_lambda": 50.0}
    assert settings.learning_rate == 5e-6
    assert not any(name.startswith("lora_") for name in settings.to_dict())


def test_other_names_of_the_field() -> None:
    assert TrainingSettings.from_dict({"loss": "dpo"}).loss == "sigmoid"
    assert TrainingSettings.from_dict({"loss": "rpo"}).loss == "dpo_nll"
    moving = TrainingSettings.from_dict({"loss": "tr_dpo"})
    assert (moving.loss, moving.reference_sync_steps, moving.reference_sync_alpha) == ("sigmoid", 512, 0.6)
    assert TrainingSettings.from_dict({"loss": "tr_dpo", "reference_sync_steps": 9}).reference_sync_steps == 9
    assert TrainingSettings.from_dict({"loss": "tr_dpo", "reference_sync_steps": None}) == moving
    changed = TrainingSettings.from_dict(TrainingSettings().overridden({"loss": "tr_dpo"}))
    assert changed.reference_sync_steps == 512


def test_another_divergence_leaves_alpha_behind() -> None:
    alpha = TrainingSettings.from_dict({"f_divergence": "alpha", "f_divergence_alpha": 0.3})
    assert alpha.to_dict()["f_divergence_alpha"] == 0.3
    kept = TrainingSettings.from_dict(alpha.overridden({"epochs": 2}))
    assert (kept.f_divergence, kept.f_divergence_alpha) == ("alpha", 0.3)
    other = TrainingSettings.from_dict(alpha.overridden({"f_divergence": "js"}))
    assert (other.f_divergence, "f_divergence_alpha" in other.to_dict()) == ("js", False)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_settings_hold_what_the_loss_reads_and_no_more(loss: str) -> None:
    """What is written down can be read back, and says nothing that means nothing."""
    settings = TrainingSettings.from_dict({"loss": loss})
    written = settings.to_dict()
    assert TrainingSettings.from_dict(written) == settings
    read = {name for name in OPTIONS_OF_LOSSES if name in written}
    assert read == set(loss_options(loss)) - {"reference_sync_alpha", "f_divergence_alpha"}
    assert set(settings.loss_settings) == set(LOSSES[loss].settings)


def test_changes_of_somebody_who_thinks_of_the_changes_alone() -> None:
    usual = TrainingSettings.from_dict(
        {"loss": "dpop", "loss_settings": {"beta": 0.5}, "margin_scale": 2.0, "lora_rank": 4, "learning_rate": 1e-3}
    )

    def changed(changes: dict[str, Any]) -> TrainingSettings:
        return TrainingSettings.from_dict(usual.overridden(changes))

    assert changed({}) == usual
    assert changed({"loss_settings": {"dpop_lambda": 5}}).loss_settings == {"beta": 0.5, "dpop_lambda": 5}
    other = changed({"loss": "kto"})
    assert (other.loss_settings["beta"], other.margin_scale, other.learning_rate) == (0.1, 1.0, 1e-3)
    full = changed({"method": "full"})
    assert (full.learning_rate, full.loss_settings["beta"], full.margin_scale) == (5e-6, 0.5, 2.0)
    with pytest.raises(SpecError, match="does not read it"):
        changed({"loss": "kto", "margin_scale": 2.0})


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({"epochs": 2}, []),
        (
            {"epochs": 0, "lora_rank": "x", "loss_settings": {"beta": -1}, "kl_budget_nats": -1},
            ["epochs", "kl_budget_nats", "lora_rank", "loss_settings.beta"],
        ),
        ({"reference_sync_steps": "x", "reference_sync_alpha": 0.5}, ["reference_sync_steps"]),
        ({"eval_every_steps": 0, "early_stop_evaluations": 2}, ["eval_every_steps"]),
        ({"loss": "best", "margin_scale": 2, "loss_settings": {"nu": 2}}, ["loss"]),
        ({"loss": "kto", "margin_scale": 2, "loss_settings": {"beta": -1}}, ["loss_settings.beta", "margin_scale"]),
        ({"colour": "red", "loss_settings": 3}, ["colour", "loss_settings"]),
        ({"method": "full", "lora_rank": 4, "lora_alpha": 4, "seed": -1}, ["lora_alpha", "lora_rank", "seed"]),
    ],
)
def test_every_problem_is_named_once_and_none_that_hangs_on_another(data: dict[str, Any], wrong: list[str]) -> None:
    before = json.dumps(data)
    assert sorted(error.field for error in problems(data)) == wrong
    assert json.dumps(data) == before


def test_the_schema_describes_every_setting() -> None:
    schema = training_schema()
    assert schema["properties"].keys() == {item.name for item in fields(TrainingSettings)}
    assert all(rule["description"] for rule in schema["properties"].values())
    for name, rule in schema["properties"].items():
        if name not in ("loss_settings", "learning_rate"):
            assert rule["default"] == getattr(TrainingSettings(), name)
    assert [rule["title"] for rule in schema["allOf"]] == [loss.title for loss in LOSSES.values()]


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        ({"loss": "best"}, "loss", "known are sigmoid, dpop"),
        ({"loss": ["sigmoid"]}, "loss", "unknown"),
        ({"loss_settings": {"dpop_lambda": 1}}, "loss_settings.dpop_lambda", "it reads beta"),
        ({"loss_settings": {"beta": 0}}, "loss_settings.beta", "above 0"),
        ({"loss_settings": {"beta": float("nan")}}, "loss_settings.beta", "not a finite number"),
        ({"loss_settings": 3}, "loss_settings", "must be an object"),
        ({"loss": "robust", "loss_settings": {"label_smoothing": 0.5}}, "loss_settings.label_smoothing", "below 0.5"),
        (
            {"loss": "exo_pair", "loss_settings": {"label_smoothing": 0}},
            "loss_settings.label_smoothing",
            "above 0 and below 0.5",
        ),
        ({"loss": "rao_kupper", "loss_settings": {"nu": 1}}, "loss_settings.nu", "above 1"),
        ({"loss": "kto", "margin_scale": 1.0}, "margin_scale", "does not read it; it reads beta, desirable_weight"),
        ({"loss": "plackett_luce", "pair_weighting": "wpo"}, "pair_weighting", "does not read it"),
        ({"loss": "orpo", "reference_sync_steps": 5}, "reference_sync_steps", "it reads orpo_lambda, margin_scale"),
        ({"reference_sync_alpha": 0.5}, "reference_sync_alpha", "while reference_sync_steps is unset"),
        ({"loss": "bco_pair", "f_divergence": "js"}, "f_divergence", "does not read it; it reads beta, margin_scale"),
        ({"f_divergence": "kl"}, "f_divergence", "known are reverse_kl, forward_kl, js, alpha"),
        ({"f_divergence": "js", "f_divergence_alpha": 0.3}, "f_divergence_alpha", "another f_divergence than 'alpha'"),
        ({"f_divergence": "alpha", "f_divergence_alpha": 0}, "f_divergence_alpha", "above 0 to 1"),
        ({"method": "qlora", "reference_sync_steps": 5}, "reference_sync_steps", "cannot move by a share"),
        ({"pair_weighting": "best"}, "pair_weighting", "known are none, wpo"),
        ({"method": "full", "lora_rank": 8}, "lora_rank", "means nothing for method 'full'"),
        ({"lora_rank": 0}, "lora_rank", "from 1 to 1024"),
        ({"lora_rank": 2.5}, "lora_rank", "whole number"),
        ({"lora_targets": "some"}, "lora_targets", "neither 'all-linear' nor a list"),
        ({"epochs": True}, "epochs", "not a finite number"),
        ({"learning_rate": "1e-4"}, "learning_rate", "'1e-4' must be a number, not a text"),
        ({"learning_rate": 0}, "learning_rate", "above 0"),
        ({"schedule": "steep"}, "schedule", "known are linear, cosine, constant"),
        ({"batch": 3}, "batch", "unknown setting"),
        ({"lora_dora": 1}, "lora_dora", "neither true nor false"),
        ({"method": "full", "lora_rslora": True}, "lora_rslora", "means nothing for method 'full'"),
        ({"early_stop_evaluations": 2}, "early_stop_evaluations", "set eval_every_steps"),
        ({"kl_budget_nats": 0}, "kl_budget_nats", "above 0"),
        ({"nodes": 2}, "rendezvous", "2 nodes need an address"),
        ({"rendezvous": "10.0.0.5:29500"}, "rendezvous", "means nothing for one node"),
        ({"nodes": 2, "rendezvous": "10.0.0.5"}, "rendezvous", "write host:port"),
        ({"nodes": 2, "rendezvous": "--x:29500"}, "rendezvous", "write host:port"),
        ({"nodes": 2, "rendezvous": "a b:1"}, "rendezvous", "write host:port"),
        ({"reference_sync_steps": 4, "processes": 2}, "processes", "remove reference_sync_steps"),
        ({"method": "qlora", "processes": 2}, "processes", "trains in one process"),
        ({"warmup_steps": 5, "warmup_ratio": 0.1}, "warmup_ratio", "means nothing beside warmup_steps; keep one"),
        ({"schedule": "constant", "lr_min_ratio": 0.1}, "lr_min_ratio", "use schedule 'linear' or 'cosine'"),
        ({"adam_beta2": 1}, "adam_beta2", "must be a number from 0 to 0.999999"),
        ({"adam_epsilon": 0}, "adam_epsilon", "must be a number above 0 to 1"),
    ],
)
def test_bad_settings_are_refused_by_name(data: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        TrainingSettings.from_dict(data)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {caught.value.message}"


@given(
    loss=st.sampled_from(sorted(LOSS_SETTINGS)),
    method=st.sampled_from(["lora", "full"]),
    numbers=st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 1000),
            "max_steps": st.none() | st.integers(1, 10**7),
            "warmup_ratio": st.floats(0, 1),
            "seed": st.integers(0, 2**31 - 1),
            "dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
            "max_length": st.none() | st.integers(8, 4096),
        },
    ),
)
def test_settings_come_back_as_they_were(loss: str, method: str, numbers: dict[str, Any]) -> None:
    settings = TrainingSettings.from_dict({"loss": loss, "method": method} | numbers)
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_warm_up_is_said_in_one_way() -> None:
    """Who says it in the other way changes it; who says neither leaves it."""
    steps = TrainingSettings.from_dict({"warmup_steps": 5})
    assert "warmup_ratio" not in steps.to_dict()
    assert TrainingSettings.from_dict(steps.to_dict()) == steps
    shared = steps.with_changes(warmup_ratio=0.2)
    assert (shared.warmup_steps, shared.warmup_ratio) == (None, 0.2)
    again = TrainingSettings.from_dict(shared.overridden({"warmup_steps": 0}))
    assert (again.warmup_steps, "warmup_ratio" in again.to_dict()) == (0, False)
    assert steps.with_changes(epochs=2).warmup_steps == 5


def test_spec_comes_back_from_disk(tmp_path: Path) -> None:
    spec = Spec(TrainingSettings.from_dict({"loss": "dpop"}), START, START, snapshot_hash="abc", reference_store="/r")
    spec.write(tmp_path)
    assert Spec.read(tmp_path) == spec
    assert Spec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"start": {"path": "/x"}}, "start"),
        ({"start": {"path": "/x", "digest": ""}}, "start.digest"),
        ({"reference": {"path": "/x", "digest": "d", "colour": "red"}}, "reference.colour"),
        ({"settings": {"epochs": 0}}, "epochs"),
        ({"snapshot_hash": 3}, "snapshot_hash"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_spec_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    spec = Spec(TrainingSettings.from_dict({}), START, START).to_dict()
    with pytest.raises(SpecError) as caught:
        Spec.from_dict(spec | changes)
    assert caught.value.field == field


def test_missing_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        Spec.read(tmp_path)


def test_exit_codes_are_what_the_worker_expects() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 143]
