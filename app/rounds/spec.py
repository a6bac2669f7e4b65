"""What a training job is told: the settings a project keeps, and the spec.json of one job.

Standard library only, for the product writes it and the trainer reads it. Every setting is checked here, once, and
what a loss would not read is refused rather than ignored.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

SCHEMA = 1
SPEC_FILE = "spec.json"
GROUPS_FILE = "groups.jsonl"
METRICS_FILE = "metrics.jsonl"

METHODS = ("lora", "full")
SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("auto", "float32", "bfloat16")
REFERENCES = ("parent", "base")
ALL_LINEAR = "all-linear"
DEFAULT_LEARNING_RATES = {"lora": 1e-4, "full": 5e-6}


class ExitCode(IntEnum):
    """How ``python -m worker.trainer`` ends; its last line on stderr says why and what to do."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    OUT_OF_MEMORY = 3
    OUT_OF_DISK = 4
    NOT_FINITE = 5
    LOCKED = 6
    STOPPED = 143


class SpecError(ValueError):
    """A setting that cannot be used. ``field`` is its name, ``message`` says both values and the mend."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class LossSetting:
    """One number a loss reads: its default, its closed range (open at 0 where ``positive``), and its meaning."""

    default: float
    low: float
    high: float
    meaning: str
    positive: bool = False

    def check(self, name: str, value: object) -> float:
        """``value`` as a float in range.

        Raises:
            SpecError: it is not a finite number, or out of range.
        """
        number = _number(name, value)
        if not self.low <= number <= self.high or (self.positive and number <= 0):
            low = f"above {self.low:g}" if self.positive else f"at least {self.low:g}"
            raise SpecError(name, f"{number:g} is out of range; use {low} and at most {self.high:g} ({self.meaning})")
        return number


def _beta(default: float) -> LossSetting:
    return LossSetting(default, 0.0, 100.0, "β: how strongly the policy is held to the reference", positive=True)


LOSS_SETTINGS: dict[str, dict[str, LossSetting]] = {
    "sigmoid": {"beta": _beta(0.1)},
    "dpop": {
        "beta": _beta(0.3),
        "dpop_lambda": LossSetting(50.0, 0.0, 10_000.0, "λ: weight of the penalty on a chosen answer that falls"),
    },
}
"""The losses by name, with every setting each one reads. ``worker.trainer.losses`` holds their functions."""

LOSS_ALIASES = {"dpo": "sigmoid"}


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
        known = {f.name for f in fields(cls)}
        for name in data:
            if name not in known:
                raise SpecError(str(name), f"unknown setting; known are {', '.join(sorted(known))}")
        values = dict(data)
        method = _one_of("method", values.get("method", "lora"), METHODS)
        if method != "lora":
            for name in values:
                if name.startswith("lora_"):
                    raise SpecError(name, f"means nothing for method {method!r}; remove it or use method 'lora'")
        values.setdefault("learning_rate", DEFAULT_LEARNING_RATES[method])
        values["loss"], values["loss_settings"] = _loss(values.get("loss", "sigmoid"), values.get("loss_settings", {}))
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


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A version directory by path, with its id (None outside a project) and the digest it must have."""

    path: str
    digest: str
    version: str | None = None

    @classmethod
    def from_dict(cls, name: str, data: object) -> "ModelRef":
        """Raises SpecError unless ``data`` is an object with a path and a digest."""
        if not isinstance(data, Mapping) or not {"path", "digest"} <= data.keys():
            raise SpecError(name, "must be an object with 'path', 'digest' and, in a project, 'version'")
        unknown = sorted(data.keys() - {"path", "digest", "version"})
        if unknown:
            raise SpecError(f"{name}.{unknown[0]}", "unknown; known are path, digest, version")
        version = data.get("version")
        return cls(
            path=_text(f"{name}.path", data["path"]),
            digest=_text(f"{name}.digest", data["digest"]),
            version=None if version is None else _text(f"{name}.version", version),
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """spec.json of a job: what to train, from where, against what."""

    settings: TrainingSettings
    start: ModelRef
    """The version the round starts from: the new version's parent."""
    reference: ModelRef
    """The reference model; equal to ``start`` unless the project asks for its base."""
    snapshot_hash: str | None = None
    reference_store: str | None = None
    """Directory of stored reference log-probs, shared by rounds; None: ``reference/`` in the job's directory."""
    schema: int = SCHEMA

    @classmethod
    def from_dict(cls, data: object) -> "Spec":
        """Raises SpecError, naming the field."""
        if not isinstance(data, Mapping):
            raise SpecError("spec", f"must be an object, not {type(data).__name__}")
        if data.get("schema") != SCHEMA:
            raise SpecError("schema", f"{data.get('schema')!r}, this program reads {SCHEMA}")
        known = {f.name for f in fields(cls)}
        for name in data:
            if name not in known:
                raise SpecError(str(name), f"unknown; known are {', '.join(sorted(known))}")
        snapshot, store = data.get("snapshot_hash"), data.get("reference_store")
        return cls(
            settings=TrainingSettings.from_dict(data.get("settings", {})),
            start=ModelRef.from_dict("start", data.get("start")),
            reference=ModelRef.from_dict("reference", data.get("reference")),
            snapshot_hash=None if snapshot is None else _text("snapshot_hash", snapshot),
            reference_store=None if store is None else _text("reference_store", store),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` of it gives an equal spec."""
        return asdict(self) | {"settings": self.settings.to_dict()}

    @classmethod
    def read(cls, job: Path) -> "Spec":
        """The spec.json of the job directory ``job``. Raises SpecError, also when it is missing or not JSON."""
        file = job / SPEC_FILE
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SpecError("spec", f"{file} cannot be read: {error}") from error
        return cls.from_dict(data)

    def write(self, job: Path) -> None:
        """Write spec.json into ``job``, atomically."""
        staged = job / f".{SPEC_FILE}.new"
        staged.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        staged.replace(job / SPEC_FILE)

    def with_settings(self, **changes: Any) -> "Spec":
        """This spec with some settings changed."""
        return replace(self, settings=self.settings.with_changes(**changes))


def _loss(name: object, given: object) -> tuple[str, dict[str, float]]:
    """Canonical name of the loss and all the settings it reads, defaults filled in."""
    loss = LOSS_ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(loss, str) or loss not in LOSS_SETTINGS:
        raise SpecError("loss", f"{name!r} is unknown; known are {', '.join(LOSS_SETTINGS)}")
    if not isinstance(given, Mapping):
        raise SpecError("loss_settings", f"must be an object, not {type(given).__name__}")
    reads = LOSS_SETTINGS[loss]
    for setting in given:
        if setting not in reads:
            raise SpecError(
                f"loss_settings.{setting}", f"loss {loss!r} does not read it; it reads {', '.join(reads) or 'none'}"
            )
    return loss, {
        setting: rule.check(f"loss_settings.{setting}", given.get(setting, rule.default))
        for setting, rule in reads.items()
    }


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(name, f"{value!r} is not a finite number")
    return float(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SpecError(name, f"{value!r} is not a text")
    return value


def _one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SpecError(name, f"{value!r} is unknown; known are {', '.join(known)}")
    return value


def _targets(name: str, value: object) -> str | list[str]:
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return list(value)
    raise SpecError(name, f"{value!r} is neither {ALL_LINEAR!r} nor a list of module names")


_Check = Callable[[str, object], Any]


def _whole(low: int, high: int) -> _Check:
    def check(name: str, value: object) -> int:
        number = _number(name, value)
        if number != int(number) or not low <= number <= high:
            raise SpecError(name, f"{number:g} must be a whole number from {low} to {high}")
        return int(number)

    return check


def _real(low: float, high: float, *, positive: bool = False) -> _Check:
    def check(name: str, value: object) -> float:
        number = _number(name, value)
        if not low <= number <= high or (positive and number <= 0):
            start = f"above {low:g}" if positive else f"from {low:g}"
            raise SpecError(name, f"{number:g} must be a number {start} to {high:g}")
        return number

    return check


def _optional(check: _Check) -> _Check:
    return lambda name, value: None if value is None else check(name, value)


def _known(*known: str) -> _Check:
    return lambda name, value: _one_of(name, value, known)


_CHECKS: dict[str, _Check] = {
    "method": _known(*METHODS),
    "lora_rank": _whole(1, 1024),
    "lora_alpha": _real(0, 4096, positive=True),
    "lora_dropout": _real(0, 0.9),
    "lora_targets": _targets,
    "learning_rate": _real(0, 1, positive=True),
    "schedule": _known(*SCHEDULES),
    "warmup_ratio": _real(0, 1),
    "weight_decay": _real(0, 1),
    "max_grad_norm": _real(0, 1e6, positive=True),
    "epochs": _whole(1, 1000),
    "max_steps": _optional(_whole(1, 10_000_000)),
    "pairs_per_step": _whole(1, 100_000),
    "tokens_per_row": _whole(16, 4_194_304),
    "max_length": _optional(_whole(8, 4_194_304)),
    "dtype": _known(*DTYPES),
    "seed": _whole(0, 2**31 - 1),
    "reference": _known(*REFERENCES),
    "eval_every_steps": _optional(_whole(1, 10_000_000)),
    "checkpoint_every_steps": _optional(_whole(1, 10_000_000)),
    "checkpoint_every_seconds": _real(0, 86_400, positive=True),
    "displacement_alarm_nats": _real(0, 1e6, positive=True),
}
