"""What a finished run leaves: the weights to publish, and the figures that version.json keeps."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.versions.manifest import ManifestError
from worker.trainer.distributed import whole_weights
from worker.trainer.examples import lengths
from worker.trainer.loop import Loop
from worker.trainer.policy import Policy, load_start, make_trainable
from worker.trainer.prepare import Prepared, precision

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is published."""

    policy: Policy
    """The model with the weights to publish, whole, in one process."""
    step: int
    """The step those weights are of."""


def outcome(prepared: Prepared, loop: Loop) -> Outcome | None:
    """What the run's settings want published; None in processes beside the main one. All of a crew ask together."""
    settings, state, crew = prepared.spec.settings, loop.state, prepared.crew
    several, quantized = crew.size > 1, settings.method == "qlora"
    step, weights = state.step, whole_weights(loop.policy.trainable) if several or quantized else None
    if not crew.main:
        return None
    if settings.publish == "best" and state.best_step not in (None, state.step):
        try:
            step, weights = int(state.best_step or 0), loop.best_weights()
        except ManifestError as error:
            log.warning("the best weights cannot be read, so the last ones are published: %s", error)
    policy = loop.policy
    if several or quantized:  # what is merged and saved is whole, and not in 4 bits
        fresh = load_start(prepared.spec.start, prepared.info, settings, torch.device("cpu"), quantized=False)
        policy = make_trainable(fresh, settings)
    if weights is not None:
        _put(policy, weights)
    return Outcome(policy, step)


@torch.no_grad()
def _put(policy: Policy, weights: dict[str, Tensor]) -> None:
    for name, parameter in policy.trainable.items():
        parameter.copy_(weights[name])


def summary(prepared: Prepared, loop: Loop, made: Outcome) -> dict[str, Any]:
    """The figures version.json keeps: of the whole run, but for those of its last step."""
    examples, state = prepared.examples, loop.state
    trained = {
        "steps": state.step,
        "steps_planned": loop.total_steps,
        "groups": len({example.group.id for example in examples.train}),
        "preferences": sum(example.preferences for example in examples.train),
        "judgements": sum(example.size for example in examples.train),
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
    }
    published = [figures for figures in state.evaluations if figures["step"] == made.step]
    held_out = {"start": state.evaluations[0], "end": published[-1]} if published else None
    return {
        "train": trained,
        "last_step": loop.last,
        "lengths": lengths(examples.train),
        "eval": held_out,
        "evaluations": state.evaluations,
        "published_step": made.step,
        "best_step": state.best_step,
        "stopped_early": loop.stopped,
        "learned_from": dict(examples.used),
        "left_out": dict(examples.unused),
        "displacement_alarm": state.alarm,
        "audit": prepared.audit.to_list(),
        "forward": prepared.passes.path,
        "dtype": precision(prepared.forward),
        "device": prepared.forward.device.type,
        "processes": prepared.crew.size,
    }
