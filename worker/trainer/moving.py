"""TR-DPO: a reference that moves towards the policy, π_ref ← α π_θ + (1−α) π_ref every τ optimiser steps.

The loss is against this reference; figures stay against the job's own, so that drift from it shows. Its log-probs are
computed in the step that reads them and never stored. Source: arXiv:2404.09656, soft update.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.rounds.spec import ModelRef
from app.versions.manifest import VersionInfo
from worker.models import load_weights
from worker.trainer.forward import Forward
from worker.trainer.packing import Batch
from worker.trainer.policy import attention_for


class MovingReference:
    """A whole model beside the policy, adapters merged into it."""

    def __init__(self, model: Any, like: Forward, *, steps: int, alpha: float) -> None:
        """``model`` is changed in place; ``like`` has the precision to compute in."""
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._forward = Forward(model, autocast=like.autocast_dtype, compiled=like.compiled)
        self._steps, self._alpha = steps, alpha
        self._moved: set[str] = set()

    @classmethod
    def load(
        cls, reference: ModelRef, info: VersionInfo, like: Forward, *, steps: int, alpha: float
    ) -> "MovingReference":
        """The job's reference, before it has moved."""
        model: Any = load_weights(
            Path(reference.path), info, torch.float32, like.device, attention=attention_for(like.device)
        )
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.requires_grad_(False)
        return cls(model.eval(), like, steps=steps, alpha=alpha)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """(C, L), nats: log-probs of a batch's completions under the reference as it stands."""
        return self._forward(batch).tokens

    @torch.no_grad()
    def after_step(self, step: int, policy: Any) -> bool:
        """Move if ``step`` optimiser steps, now done, are a multiple of τ; returns whether it moved."""
        if step % self._steps:
            return False
        for name, weight in merged_parameters(policy):
            ours = self._parameters[name]
            moved = torch.lerp(ours, weight.to(ours), self._alpha)
            if not torch.equal(moved, ours):
                ours.copy_(moved)
                self._moved.add(name)
        return True

    def state(self) -> dict[str, Tensor]:
        """The weights that are no longer those of the job's reference, for a checkpoint."""
        return {name: self._parameters[name] for name in sorted(self._moved)}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state`` gave, bit for bit, into a reference that has not moved yet.

        Raises:
            ValueError: it is of another model.
        """
        for name, weight in state.items():
            if name not in self._parameters:
                raise ValueError(f"the checkpoint's reference has a parameter {name}, the job's reference has not")
            self._parameters[name].copy_(weight)
        self._moved = set(state)


def merged_parameters(policy: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the policy's parameters as a model without adapters has them; the policy stays as it is."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not hasattr(policy, "get_base_model"):
        yield from ((name, parameter.detach()) for name, parameter in policy.named_parameters())
        return
    causal = policy.get_base_model()
    adapted = {name: module for name, module in causal.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, module in adapted.items():
        merged = copy.deepcopy(module)  # one layer at a time: merging in place and back would change the weights
        merged.merge()
        for inner, parameter in merged.get_base_layer().named_parameters():
            yield f"{name}.{inner}", parameter.detach()
    for name, parameter in causal.named_parameters():
        if not any(name.startswith(f"{layer}.") for layer in adapted):
            yield name, parameter.detach()
