"""Figures for experiment trackers: accelerate's, which know each tracker's own API."""

import json
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
    """The trackers of one run. ``listen`` takes the trainer's events.

    A run that goes on from a checkpoint repeats the steps behind it. TensorBoard drops what it has of them. The others
    cannot, so what they were told is written down, and they are not told it again.
    """

    def __init__(self, names: list[str], directory: Path, run: str, configuration: dict[str, Any]) -> None:
        """Open ``names`` for the run called ``run``; those that write files write below ``directory``."""
        self._configuration = configuration
        made = [make(name, directory, run) for name in names]
        self._files = [tracker for tracker in made if tracker.requires_logging_directory]
        self._services = [tracker for tracker in made if not tracker.requires_logging_directory]
        self._told = Told(directory / "told.json")
        self._resumed: int | None = None
        self._begun = False
        self._open: list[Any] = []
        for tracker in self._services:
            self._start(tracker)

    def listen(self, event: Event) -> None:
        """Log the figures of a training step or an evaluation."""
        if event["kind"] == "resumed":
            self._resumed = event["step"]
        group = _SHOWN.get(event["kind"])
        if group is None:
            return
        figures = {
            f"{group}/{name}": float(value)
            for name, value in event.items()
            if name not in _NOT_FIGURES and isinstance(value, int | float)
        }
        step = event["step"]
        if not self._begun:
            self._begin(step if self._resumed is None else self._resumed + 1)
        for tracker in self._files:
            tracker.log(figures, step=step)
        for tracker in self._services:
            if self._told.news(f"{tracker.name} {group}", step):
                tracker.log(figures, step=step)
        if self._services:
            self._told.write()

    def finish(self) -> None:
        """Close them all; their last figures are written."""
        for tracker in self._open:
            tracker.finish()

    def _begin(self, step: int) -> None:
        """The first step that is not behind a checkpoint is ``step``; 0 or 1 where there was none."""
        self._begun = True
        if step <= 1:
            self._told.forget()
        for tracker in self._files:
            tracker.init_kwargs["purge_step"] = step
            self._start(tracker)

    def _start(self, tracker: Any) -> None:
        tracker.start()
        tracker.store_init_configuration(_flat(self._configuration))
        self._open.append(tracker)


class Told:
    """The last step that each was told, in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._steps: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def forget(self) -> None:
        """The run begins anew."""
        self._steps = {}

    def news(self, whom: str, step: int) -> bool:
        """Whether ``step`` is after the last one; then it is the last one."""
        if step <= self._steps.get(whom, -1):
            return False
        self._steps[whom] = step
        return True

    def write(self) -> None:
        """Whole or not at all."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        staged = self._file.with_suffix(".new")
        staged.write_text(json.dumps(self._steps), encoding="utf-8")
        staged.replace(self._file)


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
