"""Gradient checkpointing: a layer keeps its input alone, and is computed again when its gradients are due.

The trainer's model stays in eval mode, where transformers leaves checkpointing out; so the layers themselves, and not
what is in them, are switched to training. A layer's own switch does nothing else.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from worker.trainer.errors import RefusedError


def use_in(model: nn.Module) -> None:
    """Let every layer of ``model``, of any architecture of transformers, be computed again in the backward pass.

    Raises:
        RefusedError: it has no layers that can be.
    """
    found = layers(model)
    if not found:
        raise RefusedError(
            "gradient_checkpointing: transformers knows no layers of this architecture that can be computed again; "
            "leave the setting out and lower tokens_per_row"
        )
    for layer in found:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = _again  # noqa: SLF001 - where transformers looks for it
        layer.training = True


def layers(model: nn.Module) -> list[Any]:
    """The layers of a model, in order, as far as transformers knows them as such."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _again(function: Callable[..., Any], *args: Any, **others: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*args, **others)
    return checkpoint(function, *args, use_reentrant=False, **others)
