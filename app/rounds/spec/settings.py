"""The training settings a project keeps and every job copies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from app.rounds.spec.checks import Check, SpecError, known, one_of, optional, real, whole
from app.rounds.spec.losses import checked_loss

METHODS = ("lora", "full")
SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("auto", "float32", "bfloat16")
REFERENCES = ("parent", "base")
ALL_LINEAR = "all-linear"
DEFAULT_LEARNING_RATES = {"lora": 1e-4, "full": 5e-6}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a project trains: stored as jsonb, copied into every job. Build it with ``from_dict``, which checks."""

    loss: str = "sigmoid"
    loss_settings: dict[str, float] = field(default_factory=dict)
    """Every setting the loss reads, and no other."""
    method: str = "lora"
    """'lora' trains an adapter, 'full' every weight."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: str | list[str] = ALL_LINEAR
    """'all-linear', or names of modules."""
    learning_rate: float = DEFAULT_LEARNING_RATES["lora"]
    schedule: str = "linear"
    warmup_ratio: float = 0.1
    """Share of all optimiser steps, rounded up."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    max_steps: int | None = None
    """Optimiser steps; ends training before ``epochs`` do."""
    pairs_per_step: int = 16
    """Preferences in one optimiser step, however many rows they are packed into."""
    tokens_per_row: int = 4096
    """Budget of a packed row, padding included; one group may be longer and then has a row of its own."""
    max_length: int | None = None
    """Longest prompt plus completion, tokens; None takes the model's context length."""
    dtype: str = "auto"
    """'float32', 'bfloat16' (autocast over fp32 weights), or 'auto': bfloat16 on a GPU that has it."""
    seed: int = 0
    reference: str = "parent"
    """'parent': the version the round starts from; 'base': the project's first version."""
    eval_every_steps: int | None = None
    """None evaluates at the start and at the end only."""
    checkpoint_every_steps: int | None = None
    checkpoint_every_seconds: float = 120.0
    displacement_alarm_nats: float = 1.0
    """Warn when the mean log-ratio of chosen completions on the evaluation split falls below minus this."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TrainingSettings":
        """Checked settings out of ``data``; what it leaves out takes its default.

        Raises:
            SpecError: an unknown name, a wrong type or range, or a setting the chosen loss or method does not read.
        """
        if not isinstance(data, Mapping):
            raise SpecError("settings", f"must be an object, not {type(data).__name__}")
        names = {f.name for f in fields(cls)}
        for name in data:
            if name not in names:
                raise SpecError(str(name), f"unknown setting; known are {', '.join(sorted(names))}")
        values = dict(data)
        method = one_of("method", values.get("method", "lora"), METHODS)
        if method != "lora":
            for name in values:
                if name.startswith("lora_"):
                    raise SpecError(name, f"means nothing for method {method!r}; remove it or use method 'lora'")
        values.setdefault("learning_rate", DEFAULT_LEARNING_RATES[method])
        values["loss"], values["loss_settings"] = checked_loss(
            values.get("loss", "sigmoid"), values.get("loss_settings", {})
        )
        for name, check in _CHECKS.items():
            if name in values:
                values[name] = check(name, values[name])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` of it gives equal settings. LoRA's settings are left out of method 'full'."""
        data = asdict(self)
        if self.method != "lora":
            data = {name: value for name, value in data.items() if not name.startswith("lora_")}
        return data

    def with_changes(self, **changes: Any) -> "TrainingSettings":
        """These settings with ``changes``, checked again as a whole."""
        return self.from_dict(self.to_dict() | changes)


def _targets(name: str, value: object) -> str | list[str]:
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return list(value)
    raise SpecError(name, f"{value!r} is neither {ALL_LINEAR!r} nor a list of module names")


_CHECKS: dict[str, Check] = {
    "method": known(*METHODS),
    "lora_rank": whole(1, 1024),
    "lora_alpha": real(0, 4096, positive=True),
    "lora_dropout": real(0, 0.9),
    "lora_targets": _targets,
    "learning_rate": real(0, 1, positive=True),
    "schedule": known(*SCHEDULES),
    "warmup_ratio": real(0, 1),
    "weight_decay": real(0, 1),
    "max_grad_norm": real(0, 1e6, positive=True),
    "epochs": whole(1, 1000),
    "max_steps": optional(whole(1, 10_000_000)),
    "pairs_per_step": whole(1, 100_000),
    "tokens_per_row": whole(16, 4_194_304),
    "max_length": optional(whole(8, 4_194_304)),
    "dtype": known(*DTYPES),
    "seed": whole(0, 2**31 - 1),
    "reference": known(*REFERENCES),
    "eval_every_steps": optional(whole(1, 10_000_000)),
    "checkpoint_every_steps": optional(whole(1, 10_000_000)),
    "checkpoint_every_seconds": real(0, 86_400, positive=True),
    "displacement_alarm_nats": real(0, 1e6, positive=True),
}
