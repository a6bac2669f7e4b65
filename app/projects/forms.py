"""The form of a project's settings: its fields, what was typed, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.accounts.principal import Principal
from app.db.tables import Project
from app.language import _, figures
from app.lines import with_newlines
from app.projects import editing
from app.projects.form_fields import Field, Section
from app.projects.loss_fields import loss_fields, reference_fields
from app.projects.refilling import DEFAULT_EXPLORATION, DEFAULT_POOL_FACTOR, gate_of, refilling_of
from app.projects.schemas import ProjectIn
from app.projects.validation import FieldError
from app.rounds.spec import ADAPTER_METHODS, MACHINE_SETTINGS, METHODS, PUBLISH, REFERENCES, TrainingSettings

_YES = "yes"


def _written(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return _YES
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _default(name: str) -> str:
    return _written(getattr(TrainingSettings(), name))


_LORA = ("training.method", " ".join(ADAPTER_METHODS))
_METHOD_NAMES = {
    "lora": _("LoRA adapter"),
    "qlora": _("LoRA adapter over 4-bit weights (CUDA)"),
    "full": _("Every weight"),
}
_PUBLISH_NAMES = {"best": _("of the lowest held-out loss"), "last": _("of the last step")}
_FLAG = (("", _("no")), (_YES, _("yes")))
_CHOOSING = ("refilling.strategy", "uncertainty information diversity")

SECTIONS = (
    Section(
        _("What it is"),
        "",
        (
            Field("name", _("Name"), kind="text", required=True),
            Field(
                "base_model",
                _("Base model"),
                _(
                    "A directory on the server with safetensors weights, or a hub id such as owner/name. "
                    "Version 1 is made of it."
                ),
                kind="text",
                required=True,
            ),
            Field(
                "guidelines",
                _("Guidelines for reviewers"),
                _("What makes an answer better here? Markdown. Reviewers can read it beside every pair."),
                kind="textarea",
            ),
        ),
        open=True,
    ),
    Section(
        _("Reviewing"),
        _("How pairs reach people."),
        (
            Field("votes_per_comparison", _("Votes per comparison"), _("How many reviewers see each pair.")),
            Field("buffer_size", _("Pairs kept ready"), _("At least so many, so that nobody waits for the model.")),
            Field(
                "refilling.buffer_minutes",
                _("Pairs for so many minutes"),
                _("If people judge faster, pairs for this long at their pace. 0: never more than kept ready."),
            ),
            Field("refilling.buffer_most", _("Most pairs by the pace")),
            Field(
                "lease_seconds", _("Reservation, seconds"), _("A pair shown to somebody is kept for them this long.")
            ),
            Field(
                "held_out_percent",
                _("Held out, percent"),
                _("Share of new prompts whose votes measure progress and never train."),
            ),
            Field(
                "feedback",
                _("Feedback of API clients"),
                _("What their own preferences and thumbs are for."),
                "select",
                (
                    ("train", _("Rounds learn from it")),
                    ("count", _("As a reviewer's vote, where a place is free")),
                    ("ignore", _("It is kept, and not used")),
                ),
            ),
        ),
    ),
    Section(
        _("Sampling"),
        _("How the current version is asked for answers."),
        (
            Field(
                "sampling.temperature",
                _("Temperature"),
                _("Higher is more varied. Above 0, or both answers are equal."),
            ),
            Field("sampling.top_p", _("Top p"), _("1 keeps every token.")),
            Field("sampling.top_k", _("Top k"), _("0 keeps every token.")),
            Field(
                "sampling.min_p",
                _("Min p"),
                _("Drops tokens less likely than this share of the likeliest. 0 keeps all."),
            ),
            Field("sampling.max_tokens", _("Longest answer, tokens")),
            Field(
                "sampling.stop",
                _("Stop texts"),
                _("One per line. An answer ends where one of them begins."),
                "textarea",
            ),
        ),
    ),
    Section(
        _("Pairs"),
        _("Which answers are set against each other."),
        (
            Field(
                "refilling.strategy",
                _("Pairs are chosen"),
                _(
                    "All but chance sample several prompts for each one they choose. Each pair keeps the "
                    "probability with which it was chosen."
                ),
                "select",
                (
                    ("random", _("by chance")),
                    ("uncertainty", _("where the model is least sure")),
                    ("information", _("where a vote tells most")),
                    ("diversity", _("on prompts unlike earlier ones")),
                ),
            ),
            Field(
                "refilling.exploration",
                _("Left to chance"),
                _("Share of pairs, above 0, so that leaderboards can be weighted back."),
                placeholder=f"{DEFAULT_EXPLORATION:g}",
                only=_CHOOSING,
            ),
            Field(
                "refilling.pool_factor",
                _("Prompts sampled for each chosen"),
                placeholder=str(DEFAULT_POOL_FACTOR),
                only=_CHOOSING,
            ),
            Field(
                "refilling.pairs_per_prompt",
                _("Pairs of a prompt at a time"),
                _("Where more than two answers are sampled."),
            ),
            Field(
                "refilling.similarity",
                _("Too alike from"),
                _(
                    "Answers that share this much of their words, 0.5 to 1, are sampled again, hotter, "
                    "and then dropped."
                ),
            ),
            Field("refilling.previous_percent", _("Against the version before, percent"), _("Share of pairs.")),
            Field("refilling.candidate_percent", _("Against the newest candidate, percent"), _("Share of pairs.")),
            Field(
                "refilling.keep_percent",
                _("Kept on a promotion, percent"),
                _("Of the old version's pairs that nobody has judged. The others leave the queue."),
            ),
        ),
    ),
    Section(
        _("Training"),
        _("What a round does with the votes. Empty fields take the default."),
        (
            *loss_fields(),
            Field(
                "training.method",
                _("Method"),
                kind="select",
                choices=tuple((name, _METHOD_NAMES[name]) for name in METHODS),
            ),
            Field("training.lora_rank", _("LoRA rank"), placeholder=_default("lora_rank"), only=_LORA),
            Field("training.lora_alpha", _("LoRA alpha"), placeholder=_default("lora_alpha"), only=_LORA),
            Field("training.lora_dropout", _("LoRA dropout"), placeholder=_default("lora_dropout"), only=_LORA),
            Field(
                "training.lora_dora",
                _("DoRA"),
                _("Magnitude and direction apart. Its versions are published merged."),
                "select",
                _FLAG,
                only=_LORA,
            ),
            Field(
                "training.lora_rslora",
                _("rsLoRA"),
                _("Alpha divided by √rank, for high ranks."),
                "select",
                _FLAG,
                only=_LORA,
            ),
            Field("training.learning_rate", _("Learning rate"), _("Default 1e-4 for LoRA, 5e-6 for every weight.")),
            Field("training.epochs", _("Epochs"), _("Times each vote is read."), placeholder=_default("epochs")),
            Field("training.max_steps", _("Most steps"), _("Ends training early."), placeholder=_("no limit")),
            Field("training.pairs_per_step", _("Pairs per step"), placeholder=_default("pairs_per_step")),
            Field(
                "training.gradient_checkpointing",
                _("Gradient checkpointing"),
                _("Less memory, up to a third more time: layers are computed twice."),
                "select",
                _FLAG,
            ),
            Field(
                "training.reference",
                _("Reference model"),
                _("What the policy is held to."),
                "select",
                tuple((name, {"parent": _("The version before"), "base": _("Version 1")}[name]) for name in REFERENCES),
            ),
            *reference_fields(),
            Field("training.seed", _("Seed"), placeholder=_default("seed")),
            Field(
                "training.eval_every_steps",
                _("Evaluate every so many steps"),
                _("On the held-out votes."),
                placeholder=_("at the start and the end"),
            ),
            Field(
                "training.kl_budget_nats",
                _("KL budget, nats per answer"),
                _("A round that strays further from the reference model stops."),
                placeholder=_("no limit"),
            ),
            Field(
                "training.early_stop_evaluations",
                _("Stop after evaluations without gain"),
                _("So many in a row without a lower held-out loss."),
                placeholder=_("never"),
            ),
            Field(
                "training.publish",
                _("Weights it publishes"),
                kind="select",
                choices=tuple((name, _PUBLISH_NAMES[name]) for name in PUBLISH),
            ),
        ),
    ),
    Section(
        _("Machines"),
        _("More than one process shards the model over their GPUs. See the trainer's guide before you set these."),
        (
            Field(
                "training.processes",
                _("Processes on each machine"),
                _("One for each GPU."),
                placeholder=_default("processes"),
            ),
            Field(
                "training.nodes", _("Machines"), _("Every further one runs hone node."), placeholder=_default("nodes")
            ),
            Field(
                "training.rendezvous",
                _("Meeting point"),
                _("host:port of the machine that starts rounds, as the others reach it."),
                "text",
                placeholder=_("one machine needs none"),
            ),
        ),
    ),
    Section(
        _("Rounds"),
        _("When a round starts by itself, and what becomes of its version."),
        (
            Field("min_round_votes", _("Fewest new votes"), _("A round starts with no fewer.")),
            Field("round_every_votes", _("Every so many new votes"), placeholder=_("not by itself")),
            Field(
                "round_schedule",
                _("Schedule"),
                _("A crontab in UTC: minute, hour, day, month, weekday. 0 3 * * * is every night at 3:00."),
                "text",
                placeholder=_("no schedule"),
            ),
            Field(
                "promotion",
                _("A new version becomes current"),
                kind="select",
                choices=(
                    ("manual", _("when an admin promotes it")),
                    ("after_round", _("after every round")),
                    ("gate", _("if it passes the gate")),
                ),
            ),
        ),
    ),
    Section(
        _("Gate"),
        _("What a new version must show, where it becomes current by the gate."),
        (
            Field(
                "gate.comparisons",
                _("Blind comparisons"),
                _("Pairs of new against current version that people judge before the gate decides. 0: figures alone."),
            ),
            Field(
                "gate.min_win_rate",
                _("Win rate, at least"),
                _("The lower end of its 95 % interval must reach this. 0.4: not clearly worse; 0.5: surely better."),
            ),
            Field("gate.min_accuracy", _("Held-out agreement, at least"), _("A share, 0 to 1.")),
            Field("gate.max_kl", _("Distance from the reference, at most"), _("Nats an answer.")),
            Field(
                "gate.max_length_ratio",
                _("Answers longer by at most"),
                _("Times the current version's, by tokens."),
            ),
        ),
    ),
)
TRAINING_SECTIONS = tuple(
    replace(section, open=section.title == "Training")
    for section in SECTIONS
    if section.title in ("Training", "Machines")
)
"""What can differ in a single round."""


def fixed_fields(me: Principal) -> dict[str, str]:
    """What ``me`` may not change in a project of theirs, and why, by field."""
    if me.is_site_admin:
        return {}
    return {
        name: _("Set by site admins.") for name in ("base_model", *(f"training.{name}" for name in MACHINE_SETTINGS))
    }


FIELDS = {field.name: field for section in SECTIONS for field in section.fields}

_TEXTS = frozenset({"name", "base_model", "guidelines", "slug", "promotion", "round_schedule", "feedback"})
_NULLABLE = frozenset({"round_every_votes", "round_schedule"})
_KEPT = frozenset(name for name in TrainingSettings().to_dict() if f"training.{name}" not in FIELDS) - {"loss_settings"}
"""Training settings that the form does not show; a change through the form leaves them as they are."""


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
    return FormState({name: _written(value) for name, value in _flat(defaults).items()})


def of_project(project: Project) -> FormState:
    """The form of an existing project's settings.

    What is the default of the loss or method stays empty, so that another one takes its own default and not theirs.
    """
    stored = {name: getattr(project, name) for name in ProjectIn.model_fields if name not in ("slug", "training")}
    stored["refilling"] = refilling_of(project.refilling).model_dump()
    stored["gate"] = gate_of(project.gate).model_dump()
    values = {name: _written(value) for name, value in _flat(stored).items()} | _shown(project.training)
    return FormState(values, shown=editing.marks({name: values.get(name, "") for name in FIELDS}))


def _shown(training: Mapping[str, Any]) -> dict[str, str]:
    """Training settings by the names of the form's fields; defaults of loss and method empty."""
    values = {name: _written(value) for name, value in _flat({"training": training}).items()}
    usual = TrainingSettings.from_dict({name: training[name] for name in ("loss", "method") if name in training})
    for name, value in _flat({"learning_rate": usual.learning_rate, "loss_settings": usual.loss_settings}).items():
        if values.get(f"training.{name}") == _written(value):
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
        elif FIELDS[name].choices == _FLAG:
            values[name] = text == _YES
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
