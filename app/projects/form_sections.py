"""The fields of a project's settings, section by section, in words."""

from dataclasses import replace

from app.language import _
from app.projects.form_fields import FLAG, Field, Section, written
from app.projects.loss_fields import loss_fields, reference_fields
from app.projects.refilling import DEFAULT_EXPLORATION, DEFAULT_POOL_FACTOR
from app.rounds.spec import ADAPTER_METHODS, METHODS, PUBLISH, REFERENCES, TrainingSettings


def _default(name: str) -> str:
    return written(getattr(TrainingSettings(), name))


_LORA = ("training.method", " ".join(ADAPTER_METHODS))
_METHOD_NAMES = {
    "lora": _("LoRA adapter"),
    "qlora": _("LoRA adapter over 4-bit weights (CUDA)"),
    "full": _("Every weight"),
}
_PUBLISH_NAMES = {"best": _("of the lowest held-out loss"), "last": _("of the last step")}
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
                FLAG,
                only=_LORA,
            ),
            Field(
                "training.lora_rslora",
                _("rsLoRA"),
                _("Alpha divided by √rank, for high ranks."),
                "select",
                FLAG,
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
                FLAG,
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
                _("The lower end of its 95% interval must reach this. 0.4: not clearly worse; 0.5: surely better."),
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

FIELDS = {field.name: field for section in SECTIONS for field in section.fields}
"""All of them by name."""
