"""What a training job is told: the settings a project keeps, and the spec.json of one job.

Standard library only, for the product writes it and the trainer reads it. Every setting is checked here, once, and
what a loss would not read is refused rather than ignored.
"""

from app.rounds.spec.checks import SpecError
from app.rounds.spec.job import GROUPS_FILE, METRICS_FILE, SCHEMA, SPEC_FILE, ExitCode, ModelRef, Spec
from app.rounds.spec.losses import (
    LOSS_ALIASES,
    LOSS_SETTINGS,
    LOSSES,
    SIGNALS,
    LossSetting,
    LossSpec,
    loss_options,
)
from app.rounds.spec.machines import MACHINE_SETTINGS, with_stored_machines
from app.rounds.spec.schema import training_schema
from app.rounds.spec.settings import (
    ADAPTER_METHODS,
    ALL_LINEAR,
    COMPILE,
    DEFAULT_LEARNING_RATES,
    DIVERGENCES,
    DTYPES,
    METHODS,
    OPTIONS_OF_LOSSES,
    PAIR_WEIGHTINGS,
    PUBLISH,
    REFERENCES,
    SCHEDULES,
    TR_DPO,
    TRUNCATE,
    TrainingSettings,
    problems,
    with_one_warmup,
)

__all__ = [
    "ADAPTER_METHODS",
    "ALL_LINEAR",
    "COMPILE",
    "DEFAULT_LEARNING_RATES",
    "DIVERGENCES",
    "DTYPES",
    "GROUPS_FILE",
    "LOSSES",
    "LOSS_ALIASES",
    "LOSS_SETTINGS",
    "MACHINE_SETTINGS",
    "METHODS",
    "METRICS_FILE",
    "OPTIONS_OF_LOSSES",
    "PAIR_WEIGHTINGS",
    "PUBLISH",
    "REFERENCES",
    "SCHEDULES",
    "SCHEMA",
    "SIGNALS",
    "SPEC_FILE",
    "TRUNCATE",
    "TR_DPO",
    "ExitCode",
    "LossSetting",
    "LossSpec",
    "ModelRef",
    "Spec",
    "SpecError",
    "TrainingSettings",
    "loss_options",
    "problems",
    "training_schema",
    "with_one_warmup",
    "with_stored_machines",
]
