"""Figures of a run that was killed and went on: each step once."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worker.trainer import tracking
from worker.trainer.tracking import Trackers


def feed(trackers: Trackers, steps: range, value: float, resumed: int | None = None) -> None:
    if resumed is not None:
        trackers.listen({"kind": "resumed", "step": resumed, "steps": 9})
    for step in steps:
        trackers.listen({"kind": "train", "step": step, "steps": 9, "loss": value})
        if step % 2 == 0:
            trackers.listen({"kind": "eval", "step": step, "steps": 9, "loss": value})
    trackers.finish()


def attempts(names: list[str], directory: Path) -> None:
    """Seven steps; then on from the checkpoint of the fourth."""
    feed(Trackers(names, directory, "run", {}), range(8), 1.0)
    feed(Trackers(names, directory, "run", {}), range(5, 10), 2.0, resumed=4)


@pytest.mark.filterwarnings("ignore")  # tensorboard's own affairs
def test_tensorboard_drops_what_is_done_again(tmp_path: Path) -> None:
    attempts(["tensorboard"], tmp_path)
    logged = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(e.step, e.value) for e in logged.Scalars("train/loss")] == [
        *((step, 1.0) for step in range(5)),
        *((step, 2.0) for step in range(5, 10)),
    ]
    assert [e.step for e in logged.Scalars("held_out/loss")] == [0, 2, 4, 6, 8]
    feed(Trackers(["tensorboard"], tmp_path, "run", {}), range(3), 3.0)
    anew = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(e.step, e.value) for e in anew.Scalars("train/loss")] == [(step, 3.0) for step in range(3)]


class Service:
    """A tracker elsewhere, which cannot take back what it was told."""

    name = "wandb"
    requires_logging_directory = False

    def __init__(self) -> None:
        self.logged: list[tuple[str, int]] = []

    def start(self) -> None: ...
    def store_init_configuration(self, values: Any) -> None: ...
    def finish(self) -> None: ...
    def log(self, figures: dict[str, float], step: int) -> None:
        self.logged += [(name, step) for name in figures]


def test_a_service_is_told_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setattr(tracking, "make", lambda *_: service)
    attempts(["wandb"], tmp_path)
    for name, steps in (("train/loss", range(10)), ("held_out/loss", range(0, 10, 2))):
        assert [step for told, step in service.logged if told == name] == list(steps)
    service.logged.clear()
    feed(Trackers(["wandb"], tmp_path, "run", {}), range(3), 3.0)  # begun anew, with other settings say
    assert [step for told, step in service.logged if told == "train/loss"] == [0, 1, 2]
