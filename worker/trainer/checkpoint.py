"""Checkpoints: everything training needs to go on as if nothing had happened, whole or not at all.

``JOB_DIR/checkpoints/step-00000012/`` holds the trained weights, AdamW's moments and the random state as
safetensors, the rest as JSON, and a manifest. Any attempt may resume from the newest that verifies, with any number
of processes: tensors are stored whole. ``best-00000008/`` holds the weights with the lowest held-out loss.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from app.versions.manifest import ManifestError, publish, verify, write_manifest
from worker.trainer.distributed import ALONE, Crew, place, whole
from worker.trainer.shift import Shift

log = logging.getLogger(__name__)

KEPT = 2
SCHEMA = 3
_TENSORS = "state.safetensors"
_REFERENCE = "reference.safetensors"
_STATE = "state.json"
_BEST = "best-"


@dataclass(slots=True)
class State:
    """Where training stands, beside the tensors."""

    fingerprint: str
    """Digest of everything that decides the trajectory: settings, start, reference, examples."""
    step: int
    """Optimiser steps done."""
    tokens: int
    """Tokens trained on."""
    seconds: float
    """Time spent training, over all attempts."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    recent_chosen: list[float] = field(default_factory=list)
    """Mean log-ratios of chosen completions in the last steps, for the displacement alarm."""
    recent_kl: list[float] = field(default_factory=list)
    """KL estimates of the last steps, for the KL budget where nothing is held out."""
    shift: Shift = field(default_factory=Shift)
    """Of a loss that has one."""
    alarm: str | None = None
    best_step: int | None = None
    """The step whose weights ``best-…`` holds, or the last one."""

    def __post_init__(self) -> None:
        """Out of JSON the shift is a mapping."""
        if isinstance(self.shift, dict):
            self.shift = Shift(**self.shift)


@dataclass(frozen=True, slots=True)
class RandomState:
    """The states of torch's generators."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> "RandomState":
        """As they are."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None)

    def restore(self) -> None:
        """Set torch's generators back to this."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.cuda)


class Checkpoints:
    """The checkpoints of one job. All of a crew call each method together; the main process reads and writes."""

    def __init__(self, job: Path, crew: Crew = ALONE) -> None:
        self.directory = job / "checkpoints"
        self._crew = crew

    def save(
        self,
        state: State,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        random: RandomState,
        reference: Mapping[str, Tensor] | None = None,
    ) -> Path:
        """Write a checkpoint; ``reference``: weights of one that has moved.

        Dropped are all but the newest ``KEPT`` of this trajectory, and those of others, which nothing goes on from.
        """
        final = self.directory / f"step-{state.step:08d}"
        data = {"schema": SCHEMA} | asdict(state)
        files = {_TENSORS: _pack(parameters, optimizer, random)}
        if reference:
            files[_REFERENCE] = {name: tensor.detach().contiguous() for name, tensor in reference.items()}
        if self._crew.main:
            self._write(final, files, data)
            self._drop_steps(state.fingerprint)
            self._drop_bests(state.best_step)
        return final

    def save_best(self, step: int, parameters: Mapping[str, nn.Parameter]) -> Path:
        """Keep the weights as they are after ``step``, apart from the checkpoints to go on from."""
        final = self.directory / f"{_BEST}{step:08d}"
        weights = {name: whole(parameter.detach()).contiguous() for name, parameter in parameters.items()}
        if self._crew.main:
            self._write(final, {_TENSORS: weights}, {"schema": SCHEMA, "step": step})
        return final

    def best(self, step: int) -> dict[str, Tensor]:
        """The weights kept after ``step``, by parameter.

        Raises:
            ManifestError: they are not there, or damaged.
        """
        directory = self.directory / f"{_BEST}{step:08d}"
        verify(directory)
        return load_file(directory / _TENSORS)

    def newest(self, fingerprint: str) -> tuple[State, Path] | None:
        """The newest whole checkpoint of the same trajectory; None starts over."""
        found = self._newest(fingerprint) if self._crew.main else None
        told: Any = None if found is None else [asdict(found[0]), str(found[1])]
        told = self._crew.first(told)
        return None if told is None else (State(**told[0]), Path(told[1]))

    def _newest(self, fingerprint: str) -> tuple[State, Path] | None:
        for directory in self._steps():
            try:
                verify(directory)
                data = json.loads((directory / _STATE).read_text(encoding="utf-8"))
            except ManifestError as error:
                log.warning("checkpoint passed over: %s", error)
                continue
            if data.pop("schema") != SCHEMA or data["fingerprint"] != fingerprint:
                log.warning(
                    "%s was made with other settings, models or examples, and is not gone on from; the first "
                    "checkpoint that is written now takes its place",
                    directory,
                )
                continue
            return State(**data), directory
        return None

    def _write(self, final: Path, files: Mapping[str, Mapping[str, Tensor]], data: Mapping[str, Any]) -> None:
        """``final``, whole or not at all."""
        if final.exists():
            shutil.rmtree(final)
        staged = self.directory / f".{final.name}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            for name, tensors in files.items():
                save_file(dict(tensors), staged / name)
            (staged / _STATE).write_text(json.dumps(data), encoding="utf-8")
            write_manifest(staged)
            publish(staged, final)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _drop_steps(self, fingerprint: str) -> None:
        """Remove all but the newest ``KEPT`` checkpoints of the trajectory ``fingerprint``."""
        own = [directory for directory in self._steps() if _fingerprint(directory) == fingerprint]
        for directory in self._steps():
            if directory not in own[:KEPT]:
                shutil.rmtree(directory)

    def _drop_bests(self, current: int | None) -> None:
        """Remove kept weights that no checkpoint that might be gone on from calls the best."""
        wanted = {current}
        for directory in self._steps():
            wanted.add(json.loads((directory / _STATE).read_text(encoding="utf-8")).get("best_step"))
        for directory in self.directory.glob(f"{_BEST}*"):
            if int(directory.name.removeprefix(_BEST)) not in wanted:
                shutil.rmtree(directory)

    def _steps(self) -> list[Path]:
        """Newest first."""
        return sorted(self.directory.glob("step-*"), reverse=True)


def _fingerprint(directory: Path) -> str | None:
    """Of the trajectory that a checkpoint belongs to; None of one that cannot be read."""
    try:
        return str(json.loads((directory / _STATE).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None


def restore(directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights, moments and random state back, bit for bit.

    Raises:
        ValueError: it holds other parameters than ``parameters``.
    """
    tensors = load_file(directory / _TENSORS)
    stored = {name.removeprefix("weight.") for name in tensors if name.startswith("weight.")}
    if stored != set(parameters):
        odd = min(stored ^ set(parameters))
        raise ValueError(f"{directory} holds {len(stored)} parameters, the model trains {len(parameters)} ({odd})")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(place(tensors[f"weight.{name}"], parameter))
            moments = {key: tensors.get(f"{key}.{name}") for key in ("exp_avg", "exp_avg_sq", "step")}
            optimizer.state[parameter] = {
                key: _moment(key, value, parameter, optimizer) for key, value in moments.items() if value is not None
            }
    RandomState(tensors["random.cpu"], tensors.get("random.cuda")).restore()


def _moment(key: str, value: Tensor, parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> Tensor:
    if key != "step":
        return place(value, parameter)
    return value.to(parameter.device) if optimizer.defaults.get("fused") else value


def restore_reference(directory: Path) -> dict[str, Tensor]:
    """The weights by which a moving reference differs from the job's; none before it moved."""
    file = directory / _REFERENCE
    return load_file(file) if file.is_file() else {}


def _pack(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, random: RandomState
) -> dict[str, Tensor]:
    tensors = {"random.cpu": random.cpu}
    if random.cuda is not None:
        tensors["random.cuda"] = random.cuda
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = whole(parameter.detach()).contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = whole(value).contiguous()
    return tensors
