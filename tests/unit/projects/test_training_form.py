"""The training fields of a project's settings form: what is typed is what is stored, and shown again."""

from app.language.texts import Text
from app.projects import forms
from app.projects.form_fields import written
from app.projects.form_sections import FIELDS
from app.projects.schemas import ProjectIn
from app.projects.validation import draft


def typed(**training: str) -> dict[str, str]:
    """A form as a browser sends it, with some training fields filled in."""
    form = dict.fromkeys(FIELDS, "") | {f"training.{name}": text for name, text in training.items()}
    return form | {"training.loss": "sigmoid", "training.method": training.get("method", "lora")}


def test_switches_numbers_and_addresses() -> None:
    given = typed(
        lora_dora="yes",
        lora_rslora="",
        eval_every_steps="50",
        kl_budget_nats="2.5",
        early_stop_evaluations="3",
        publish="last",
        processes="8",
        nodes="2",
        rendezvous="trainer-1.internal:29500",
    )
    _, values = forms.read(given)
    training = values["training"]
    assert training["lora_dora"] is True
    assert "lora_rslora" not in training
    assert (training["eval_every_steps"], training["kl_budget_nats"]) == (50, 2.5)
    assert (training["publish"], training["rendezvous"]) == ("last", "trainer-1.internal:29500")
    stored = draft(ProjectIn, {"name": "x", "base_model": "", "training": training}, check_base=False).training
    assert (stored["lora_dora"], stored["lora_rslora"], stored["processes"], stored["nodes"]) == (True, False, 8, 2)
    shown = forms._flat({"training": stored})
    assert [written(shown[f"training.{name}"]) for name in ("lora_dora", "lora_rslora")] == ["yes", ""]


def test_adapter_settings_outside_the_form_stay_for_every_adapter_method() -> None:
    kept = {"lora_targets": ["q_proj"], "warmup_ratio": 0.2}
    assert forms.read(typed(method="qlora"), training=kept)[1]["training"]["lora_targets"] == ["q_proj"]
    assert "lora_targets" not in forms.read(typed(method="full"), training=kept)[1]["training"]


def test_defaults_are_told_in_the_readers_numbers() -> None:
    hint = FIELDS["training.loss_settings.label_smoothing"].hint
    assert isinstance(hint, Text)
    assert "Default 0.1; 0.001 for EXO." in hint
    assert "Vorgabe: 0,1; 0,001 bei EXO." in hint.into("de")
    assert "Default 50." in FIELDS["training.loss_settings.dpop_lambda"].hint  # whole numbers without a point
