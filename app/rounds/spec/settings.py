"""The training settings a project keeps and every job copies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from app.language import _
from app.rounds.spec.checks import (
    Check,
    SpecError,
    host_and_port,
    known,
    one_of,
    optional,
    real,
    whole,
    yes_or_no,
)
from app.rounds.spec.losses import LOSS_ALIASES, checked_loss, loss_options

METHODS = ("lora", "qlora", "full")
ADAPTER_METHODS = ("lora", "qlora")
PUBLISH = ("best", "last")
SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("auto", "float32", "bfloat16")
COMPILE = ("auto", "always", "never")
TRUNCATE = ("never", "prompt_start")
REFERENCES = ("parent", "base")
PAIR_WEIGHTINGS = ("none", "wpo")
DIVERGENCES = ("reverse_kl", "forward_kl", "js", "alpha")
ALL_LINEAR = "all-linear"
DEFAULT_LEARNING_RATES = {"lora": 1e-4, "qlora": 1e-4, "full": 5e-6}
TR_DPO = "tr_dpo"
"""Another name of DPO with a reference that moves every ``TR_DPO_SYNC_STEPS``."""
TR_DPO_SYNC_STEPS = 512


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a project trains: stored as jsonb, copied into every job. Build it with ``from_dict``, which checks."""

    loss: str = "sigmoid"
    loss_settings: dict[str, float] = field(default_factory=dict)
    """Every setting the loss reads, and no other."""
    margin_scale: float = 1.0
    """Times a preference's margin is its δ, in nats of the loss's argument; 0 leaves margins out."""
    pair_weighting: str = "none"
    """'wpo' weighs a pair by how likely the policy itself would write its answers."""
    f_divergence: str = "reverse_kl"
    """The divergence from the reference that rewards are of: DPO's reverse KL, or another of f-DPO."""
    f_divergence_alpha: float = 0.5
    """α of 'alpha': towards 0 the forward KL, at 1 the reverse."""
    method: str = "lora"
    """'lora' trains an adapter, 'qlora' one over weights of 4 bits (CUDA only), 'full' every weight."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: str | list[str] = ALL_LINEAR
    """'all-linear', or names of modules."""
    lora_dora: bool = False
    """DoRA: magnitude and direction apart; such a version is published merged."""
    lora_rslora: bool = False
    """rsLoRA: alpha is divided by √rank instead of rank."""
    learning_rate: float = DEFAULT_LEARNING_RATES["lora"]
    schedule: str = "linear"
    warmup_ratio: float = 0.1
    """Share of all optimiser steps, rounded up, in which the learning rate rises; unread beside ``warmup_steps``."""
    warmup_steps: int | None = None
    """The same in optimiser steps."""
    lr_min_ratio: float = 0.0
    """Where a falling schedule ends, as a share of ``learning_rate``."""
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    epochs: int = 1
    max_steps: int | None = None
    """Optimiser steps; ends training before ``epochs`` do."""
    pairs_per_step: int = 16
    """Preferences in one optimiser step, however many rows they are packed into."""
    tokens_per_row: int = 4096
    """Budget of a packed row, padding included; one group may be longer and then has a row of its own."""
    gradient_checkpointing: bool = False
    """Layers keep their inputs alone and are computed again in the backward pass: less memory, a third more time."""
    compile: str = "auto"
    """Layers compiled on a GPU (torch.compile): 'always', 'never', or 'auto': where the job is long enough to gain."""
    max_length: int | None = None
    """Longest prompt plus completion, tokens; None takes the model's context length."""
    truncate: str = "never"
    """'prompt_start' cuts the beginning of prompts that are too long with their answers, which 'never' leaves out."""
    dtype: str = "auto"
    """'float32', 'bfloat16' (autocast over fp32 weights), or 'auto': bfloat16 on a GPU that has it."""
    seed: int = 0
    reference: str = "parent"
    """'parent': the version the round starts from; 'base': the project's first version."""
    reference_sync_steps: int | None = None
    """The reference moves towards the policy every so many optimiser steps (TR-DPO); None: it stays."""
    reference_sync_alpha: float = 0.6
    """How far it moves: 1 is all the way."""
    eval_every_steps: int | None = None
    """None evaluates at the start and at the end only."""
    kl_budget_nats: float | None = None
    """Stop once the policy is further from its reference than this, nats per completion."""
    early_stop_evaluations: int | None = None
    """Stop after so many evaluations in a row without a lower held-out loss."""
    publish: str = "best"
    """'best': the weights with the lowest held-out loss of all evaluations (within the KL budget), 'last': the final
    ones. Without ``eval_every_steps`` both are the same."""
    checkpoint_every_steps: int | None = None
    checkpoint_every_seconds: float = 120.0
    displacement_alarm_nats: float = 1.0
    """Warn when the mean log-ratio of chosen completions on the evaluation split falls below minus this."""
    processes: int = 1
    """Trainer processes on each machine, a GPU each; more than one shards the model over all of them (FSDP)."""
    nodes: int = 1
    """Machines that train together; every further one runs ``hone node``."""
    rendezvous: str | None = None
    """host:port of the machine that starts rounds, as the others reach it; with ``nodes`` above 1."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TrainingSettings":
        """Checked settings out of ``data``; what it leaves out takes its default.

        Raises:
            SpecError: an unknown name, a wrong type or range, or a setting the chosen loss or method does not read.
        """
        if not isinstance(data, Mapping):
            raise SpecError("settings", _("must be an object, not %(name)s", name=type(data).__name__))
        names = {f.name for f in fields(cls)}
        for name in data:
            if name not in names:
                raise SpecError(str(name), _("unknown setting; known are %(names)s", names=", ".join(sorted(names))))
        values = dict(data)
        method = one_of("method", values.get("method", "lora"), METHODS)
        if method not in ADAPTER_METHODS:
            for name in values:
                if name.startswith("lora_"):
                    raise SpecError(
                        name,
                        _("means nothing for method %(method)s; remove it or use method 'lora'", method=repr(method)),
                        beside="method",
                    )
        values.setdefault("learning_rate", DEFAULT_LEARNING_RATES[method])
        if values.get("loss") == TR_DPO:
            values |= _tr_dpo(values.get("reference_sync_steps"))
        values["loss"], values["loss_settings"] = checked_loss(
            values.get("loss", "sigmoid"), values.get("loss_settings", {})
        )
        _refuse_unread(values)
        for name, check in CHECKS.items():
            if name in values:
                values[name] = check(name, values[name])
        settings = cls(**values)
        settings._check_together()
        return settings

    def _check_together(self) -> None:
        """Raises SpecError for settings that mean nothing without another."""
        if self.lr_min_ratio and self.schedule == "constant":
            raise SpecError(
                "lr_min_ratio",
                _("means nothing for a learning rate that stays; use schedule 'linear' or 'cosine', or remove it"),
                beside="schedule",
            )
        if self.early_stop_evaluations is not None and self.eval_every_steps is None:
            raise SpecError(
                "early_stop_evaluations",
                _("means nothing without evaluations in between; set eval_every_steps"),
                beside="eval_every_steps",
            )
        if self.nodes > 1 and self.rendezvous is None:
            raise SpecError(
                "rendezvous",
                _("%(nodes)s nodes need an address to meet at; give host:port of this one", nodes=self.nodes),
                beside="nodes",
            )
        if self.nodes == 1 and self.rendezvous is not None:
            raise SpecError("rendezvous", _("means nothing for one node; set nodes, or remove it"), beside="nodes")
        if self.reference_sync_steps is not None and self.processes * self.nodes > 1:
            raise SpecError(
                "processes",
                _("a reference that moves trains in one process; remove reference_sync_steps"),
                beside="reference_sync_steps",
            )
        if self.reference_sync_steps is not None and self.method == "qlora":
            raise SpecError(
                "reference_sync_steps",
                _("weights of 4 bits cannot move by a share; use method 'lora', or remove it"),
                beside="method",
            )
        if self.method == "qlora" and self.processes * self.nodes > 1:
            raise SpecError(
                "processes",
                _("method 'qlora' trains in one process; use method 'lora' to shard the model"),
                beside="method",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` of it gives equal settings. What loss or method does not read is left out."""
        data = asdict(self)
        if self.method not in ADAPTER_METHODS:
            data = {name: value for name, value in data.items() if not name.startswith("lora_")}
        for name in set(OPTIONS_OF_LOSSES) - set(loss_options(self.loss)):
            del data[name]
        if self.reference_sync_steps is None:
            data.pop("reference_sync_alpha", None)
        if self.f_divergence != "alpha":
            data.pop("f_divergence_alpha", None)
        if self.warmup_steps is not None:
            del data["warmup_ratio"]
        return data

    def with_changes(self, **changes: Any) -> "TrainingSettings":
        """These settings with ``changes``, checked again as a whole."""
        return self.from_dict(with_one_warmup(self.to_dict(), changes) | changes)

    def overridden(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """These settings with ``changes`` of somebody who thinks of the changes alone, not checked yet.

        ``loss_settings`` are changed one by one. Another loss or method starts from its own defaults: what the old
        one read and the new one does not is dropped, as are numbers that were fit for the old one.
        """
        data = self.to_dict()
        loss = changes.get("loss", self.loss)
        if not isinstance(loss, str) or LOSS_ALIASES.get(loss, loss) != self.loss:
            for name in ("loss_settings", *OPTIONS_OF_LOSSES):
                data.pop(name, None)
        elif isinstance(changes.get("loss_settings"), Mapping):
            changes = {**changes, "loss_settings": self.loss_settings | dict(changes["loss_settings"])}
        if changes.get("f_divergence", self.f_divergence) != self.f_divergence:
            data.pop("f_divergence_alpha", None)
        if changes.get("method", self.method) != self.method:
            data = {name: value for name, value in data.items() if not name.startswith("lora_")}
            del data["learning_rate"]
        return with_one_warmup(data, changes) | dict(changes)


def with_one_warmup(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the length of the warm-up, where ``changes`` say it in the other way."""
    said = {name for name in ("warmup_ratio", "warmup_steps") if changes.get(name) is not None}
    return {name: value for name, value in data.items() if not (name.startswith("warmup_") and said)}


def problems(data: Mapping[str, Any]) -> list[SpecError]:
    """Everything that is wrong with training settings, each once; empty where ``from_dict`` takes them.

    What is wrong beside a setting that is refused itself is not told: it may be right beside another.
    """
    found: dict[str, SpecError] = {}
    rest: Any = dict(data) if isinstance(data, Mapping) else data
    while True:
        try:
            TrainingSettings.from_dict(rest)
        except SpecError as error:
            if error.beside not in found:
                found[error.field] = error
            if not _leave_out(rest, error.field):
                return list(found.values())
        else:
            return list(found.values())


def _leave_out(data: Any, field_name: str) -> bool:
    """Remove a setting by its dotted name; whether it was there."""
    name, _dot, inner = field_name.partition(".")
    if not isinstance(data, dict) or name not in data:
        return False
    if inner and isinstance(data[name], Mapping) and inner in data[name]:
        data[name] = {key: value for key, value in data[name].items() if key != inner}
    else:
        del data[name]
    return True


OPTIONS_OF_LOSSES = (
    "margin_scale",
    "pair_weighting",
    "f_divergence",
    "f_divergence_alpha",
    "reference_sync_steps",
    "reference_sync_alpha",
)


def _tr_dpo(steps: Any) -> dict[str, Any]:
    """TR-DPO in settings of its own; with None for the steps the reference would stay, which is plain DPO."""
    return {"loss": "sigmoid", "reference_sync_steps": TR_DPO_SYNC_STEPS if steps is None else steps}


def _refuse_unread(values: Mapping[str, Any]) -> None:
    """Raises SpecError for an option that the chosen loss, or another option, leaves unread."""
    loss = values["loss"]
    reads = loss_options(loss)
    for name in OPTIONS_OF_LOSSES:
        if values.get(name) is not None and name not in reads:
            known_to_it = ", ".join([*values["loss_settings"], *reads])
            raise SpecError(
                name,
                _("loss %(loss)s does not read it; it reads %(known_to_it)s", loss=repr(loss), known_to_it=known_to_it),
                beside="loss",
            )
    if values.get("reference_sync_alpha") is not None and values.get("reference_sync_steps") is None:
        raise SpecError(
            "reference_sync_alpha",
            _("means nothing while reference_sync_steps is unset; set that, too"),
            beside="reference_sync_steps",
        )
    if values.get("f_divergence_alpha") is not None and values.get("f_divergence") != "alpha":
        raise SpecError(
            "f_divergence_alpha",
            _("means nothing for another f_divergence than 'alpha'; set that, or remove it"),
            beside="f_divergence",
        )
    if values.get("warmup_steps") is not None and "warmup_ratio" in values:
        raise SpecError(
            "warmup_ratio", _("means nothing beside warmup_steps; keep one of the two"), beside="warmup_steps"
        )


def _targets(name: str, value: object) -> str | list[str]:
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return list(value)
    raise SpecError(
        name,
        _(
            "%(value)s is neither %(all_linear)s nor a list of module names",
            value=repr(value),
            all_linear=repr(ALL_LINEAR),
        ),
    )


CHECKS: dict[str, Check] = {
    "margin_scale": real(0, 1000),
    "pair_weighting": known(*PAIR_WEIGHTINGS),
    "f_divergence": known(*DIVERGENCES),
    "f_divergence_alpha": real(0, 1, positive=True),
    "method": known(*METHODS),
    "lora_rank": whole(1, 1024),
    "lora_alpha": real(0, 4096, positive=True),
    "lora_dropout": real(0, 0.9),
    "lora_targets": Check(
        _targets,
        {
            "anyOf": [
                {"type": "string", "const": ALL_LINEAR},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        },
    ),
    "lora_dora": yes_or_no,
    "lora_rslora": yes_or_no,
    "learning_rate": real(0, 1, positive=True),
    "schedule": known(*SCHEDULES),
    "warmup_ratio": real(0, 1),
    "warmup_steps": optional(whole(0, 10_000_000)),
    "lr_min_ratio": real(0, 1),
    "weight_decay": real(0, 1),
    "adam_beta1": real(0, 0.999999),
    "adam_beta2": real(0, 0.999999),
    "adam_epsilon": real(0, 1, positive=True),
    "max_grad_norm": real(0, 1e6, positive=True),
    "epochs": whole(1, 1000),
    "max_steps": optional(whole(1, 10_000_000)),
    "pairs_per_step": whole(1, 100_000),
    "tokens_per_row": whole(16, 4_194_304),
    "gradient_checkpointing": yes_or_no,
    "compile": known(*COMPILE),
    "max_length": optional(whole(8, 4_194_304)),
    "truncate": known(*TRUNCATE),
    "dtype": known(*DTYPES),
    "seed": whole(0, 2**31 - 1),
    "reference": known(*REFERENCES),
    "reference_sync_steps": optional(whole(1, 10_000_000)),
    "reference_sync_alpha": real(0, 1, positive=True),
    "eval_every_steps": optional(whole(1, 10_000_000)),
    "kl_budget_nats": optional(real(0, 1e6, positive=True)),
    "early_stop_evaluations": optional(whole(1, 10_000)),
    "publish": known(*PUBLISH),
    "checkpoint_every_steps": optional(whole(1, 10_000_000)),
    "checkpoint_every_seconds": real(0, 86_400, positive=True),
    "displacement_alarm_nats": real(0, 1e6, positive=True),
    "processes": whole(1, 64),
    "nodes": whole(1, 1024),
    "rendezvous": optional(host_and_port),
}
