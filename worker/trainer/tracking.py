"""Figures for experiment trackers: accelerate's, which know each tracker's own API."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from worker.trainer.errors import RefusedError
from worker.trainer.metrics import Event

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
NONE = "none"
"""What TRL calls no tracker."""
_SHOWN = {"train": "train", "eval": "held_out"}
_NOT_FIGURES = {"kind", "step", "steps", "progress"}


class Trackers:
    """The trackers of one run. ``listen`` takes the trainer's events."""

    def __init__(self, names: list[str], directory: Path, run: str, configuration: dict[str, Any]) -> None:
        """Open ``names`` for the run called ``run``; those that write files write below ``directory``."""
        self._trackers = [make(name, directory, run) for name in names]
        for tracker in self._trackers:
            tracker.start()
            tracker.store_init_configuration(_flat(configuration))

    def listen(self, event: Event) -> None:
        """Log the figures of a training step or an evaluation."""
        group = _SHOWN.get(event["kind"])
        if group is None:
            return
        figures = {
            f"{group}/{name}": float(value)
            for name, value in event.items()
            if name not in _NOT_FIGURES and isinstance(value, int | float)
        }
        for tracker in self._trackers:
            tracker.log(figures, step=event["step"])

    def finish(self) -> None:
        """Close them all; their last figures are written."""
        for tracker in self._trackers:
            tracker.finish()


def checked(names: list[str]) -> list[str]:
    """``names``, each once; without 'none'.

    Raises:
        RefusedError: an unknown tracker, or one that is not installed.
    """
    wanted = [name for name in dict.fromkeys(names) if name != NONE]
    for name in wanted:
        if name not in TRACKERS:
            raise RefusedError(f"--report-to {name!r} is unknown; known are {', '.join([*TRACKERS, NONE])}")
        if find_spec(name) is None:
            raise RefusedError(f"--report-to {name}: it is not installed; run: pip install 'hone[{name}]'")
    return wanted


def make(name: str, directory: Path, run: str) -> Any:
    """The tracker called ``name``, not started yet."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState(cpu=True)  # its trackers ask it whether this is the main process; it touches no device
    made = LOGGER_TYPE_TO_CLASS[name]
    # MLflow, W&B and Trackio call it an experiment or project; runs of one output belong together.
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", run) or "hone"
    return made(plain, logging_dir=directory) if made.requires_logging_directory else made(plain)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as trackers take them: no nesting, no lists, no None."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            flat[prefix + name] = value
        else:
            flat[prefix + name] = "" if value is None else ", ".join(map(str, value))
    return flat
