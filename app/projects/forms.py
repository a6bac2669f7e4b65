"""The form of a project's settings: what stands in it, what was typed, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.accounts.principal import Principal
from app.db.tables import Project
from app.language import _, figures
from app.lines import with_newlines
from app.projects import editing
from app.projects.form_fields import FLAG, YES, Field, Section, written
from app.projects.form_sections import FIELDS, TRAINING_SECTIONS
from app.projects.refilling import gate_of, refilling_of
from app.projects.schemas import ProjectIn
from app.projects.validation import FieldError
from app.rounds.spec import ADAPTER_METHODS, MACHINE_SETTINGS, TrainingSettings

_TEXTS = frozenset({"name", "base_model", "guidelines", "slug", "promotion", "round_schedule", "feedback"})
_NULLABLE = frozenset({"round_every_votes", "round_schedule"})
_KEPT = frozenset(name for name in TrainingSettings().to_dict() if f"training.{name}" not in FIELDS) - {"loss_settings"}
"""Training settings that the form does not show; a change through the form leaves them as they are."""


def fixed_fields(me: Principal) -> dict[str, str]:
    """What ``me`` may not change in a project of theirs, and why, by field."""
    if me.is_site_admin:
        return {}
    return {
        name: _("Set by site admins.") for name in ("base_model", *(f"training.{name}" for name in MACHINE_SETTINGS))
    }


@dataclass(slots=True)
class FormState:
    """What stands in the form, as text, and what is wrong."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    general: list[str] = field(default_factory=list)
    """Errors that belong to no field of the form."""
    stored: dict[str, str] = field(default_factory=dict)
    """What somebody else has stored meanwhile in fields that were changed in this form, too."""
    shown: str = ""
    """The marks of what the form was shown with (``app.projects.editing``); empty for one that changes nothing."""
    unread: set[str] = field(default_factory=set)
    """Numbers that may mean this or that; they stay as they were typed."""

    def text(self, item: Field) -> str:
        """The field's value as people of the language of now would type it."""
        value = self.values.get(item.name, "")
        return value if item.name in self.unread else _as_typed(item, value)

    def placeholder(self, item: Field) -> str:
        """What an empty field stands for, written the same way."""
        return _as_typed(item, item.placeholder)

    def meanwhile(self, item: Field) -> str:
        """What is stored in the field now, in words."""
        value = self.stored[item.name]
        return dict(item.choices).get(value, _as_typed(item, value)) or _("nothing")

    def add_errors(self, errors: list[FieldError]) -> None:
        """Put each error at its field, or at the longest field name that begins its own."""
        for error in errors:
            name = error.field
            while name and name not in FIELDS:
                name = name.rpartition(".")[0]
            if name:
                self.errors.setdefault(name, error.message)
            else:
                self.general.append(f"{error.field}: {error.message}")

    def wrong_in(self, section: Section) -> bool:
        """Whether one of the section's fields has an error, so that it must be open."""
        return any(item.name in self.errors or item.name in self.stored for item in section.fields)


def blank() -> FormState:
    """The form of a new project, defaults filled in where they do not depend on another field."""
    defaults = ProjectIn.model_construct(name="", base_model="").model_dump(exclude={"training", "slug"})
    return FormState({name: written(value) for name, value in _flat(defaults).items()})


def of_project(project: Project) -> FormState:
    """The form of an existing project's settings.

    What is the default of the loss or method stays empty, so that another one takes its own default and not theirs.
    """
    stored = {name: getattr(project, name) for name in ProjectIn.model_fields if name not in ("slug", "training")}
    stored["refilling"] = refilling_of(project.refilling).model_dump()
    stored["gate"] = gate_of(project.gate).model_dump()
    values = {name: written(value) for name, value in _flat(stored).items()} | _shown(project.training)
    return FormState(values, shown=editing.marks({name: values.get(name, "") for name in FIELDS}))


def _shown(training: Mapping[str, Any]) -> dict[str, str]:
    """Training settings by the names of the form's fields; defaults of loss and method empty."""
    values = {name: written(value) for name, value in _flat({"training": training}).items()}
    usual = TrainingSettings.from_dict({name: training[name] for name in ("loss", "method") if name in training})
    for name, value in _flat({"learning_rate": usual.learning_rate, "loss_settings": usual.loss_settings}).items():
        if values.get(f"training.{name}") == written(value):
            values[f"training.{name}"] = ""
    return values


def merge(form: Mapping[str, Any], project: Project) -> tuple[FormState, dict[str, Any]]:
    """What was typed into the form of an existing project, as ``read`` gives it; what was not changed in it is as it
    is stored by now, and ``stored`` of the form has what somebody else has changed, too."""
    state, shown = _typed(form), str(form.get(editing.MARKS, ""))
    now = of_project(project)
    touched = editing.changed(state.values, shown)
    machines = {f"training.{name}" for name in MACHINE_SETTINGS}  # for site admins to change; others send none
    unsent = {
        name
        for name, item in FIELDS.items()
        if name not in form and (name in machines or (item.only and item.only[0] not in touched))
    }
    current = {name: now.values.get(name, "") for name in FIELDS}
    merged = editing.merge(state.values, current, shown, unsent=unsent)
    state = FormState(
        merged.values, state.errors, stored=merged.stored, shown=now.shown if merged.stored else shown,
        unread=state.unread,
    )  # fmt: skip
    return state, _arguments(state, project.training)


def read(form: Mapping[str, Any], *, training: Mapping[str, Any] | None = None) -> tuple[FormState, dict[str, Any]]:
    """What was typed, and the same as arguments of the service.

    Numbers that are none stay texts, so that the service refuses them by name; empty fields are left out.

    Args:
        training: the stored training settings; those that the form does not show are carried over.
    """
    state = _typed(form)
    return state, _arguments(state, training or {})


def _typed(form: Mapping[str, Any]) -> FormState:
    """What was typed, numbers with a point."""
    state = FormState({name: with_newlines(str(form.get(name, ""))) for name in FIELDS})
    for name, text in state.values.items():
        if FIELDS[name].kind == "number":
            number = figures.typed(text)
            if number is None:
                told = _("%(number)s could be a thousand or a fraction; write it without the point", number=text)
                state.errors[name] = told
                state.unread.add(name)
            else:
                state.values[name] = number
    return state


def _arguments(state: FormState, training: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed as arguments of the service, which is also told what is wrong already, so that it refuses it."""
    typed = state.values | {name: f"{state.values[name]}?" for name in state.unread}
    values: dict[str, Any] = {name: text if name in _TEXTS else _number(text) for name, text in typed.items()}
    values["sampling.stop"] = [line for line in typed["sampling.stop"].split("\n") if line]
    for name, text in typed.items():
        if not text.strip():
            values[name] = None
        elif FIELDS[name].choices == FLAG:
            values[name] = text == YES
    kept = {
        name: value
        for name, value in training.items()
        if name in _KEPT and (typed["training.method"] in ADAPTER_METHODS or not name.startswith("lora_"))
    }
    arguments: dict[str, Any] = {"sampling": {}, "refilling": {}, "gate": {}, "training": kept | {"loss_settings": {}}}
    for name, value in values.items():
        if value is not None or name in _NULLABLE:
            _put(arguments, name.split("."), value)
    for needed in ("name", "base_model", "guidelines"):
        arguments.setdefault(needed, "")
    return arguments


def of_training(settings: Mapping[str, Any]) -> FormState:
    """The form of a single round's training settings: these, to begin with."""
    shown = {item.name for section in TRAINING_SECTIONS for item in section.fields}
    return FormState({name: value for name, value in _shown(settings).items() if name in shown})


def read_training(form: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[FormState, dict[str, Any]]:
    """What was typed, and the same as training settings; those that the form does not show are as in ``settings``."""
    state, arguments = read(form, training=settings)
    training: dict[str, Any] = arguments["training"]
    return state, training


def _put(target: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value


def _as_typed(item: Field, value: str) -> str:
    return figures.in_field(value) if item.kind == "number" and figures.is_number(value) else value


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text.strip())
        except ValueError:
            continue
    return text.strip()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
