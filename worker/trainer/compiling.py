"""torch.compile for the layers of a model on a GPU, where a job is long enough to gain by it.

Norms, rotations and activations are kernels of their own over fp32 hidden states; compiled, a layer has half of the
kernels and keeps a third less memory. The first pass waits ten seconds more for it; less where a process finds what
an earlier one compiled, in PyTorch's cache.
"""

from typing import Any

from torch import nn

from app.rounds.spec import TrainingSettings
from worker.trainer import recompute

OPERATIONS_A_SECOND = 2e14
"""Of an H200 without compiled layers."""
WORTH_SECONDS = 60.0
"""A job that would take longer than this without is compiled: it gains a third."""


def pays(settings: TrainingSettings, model: nn.Module, tokens: int) -> bool:
    """Whether a job of so many ``tokens`` forward, a training token counted three times, is to be compiled."""
    if settings.compile != "auto":
        return settings.compile == "always"
    if settings.method == "qlora":
        return False
    operations = 2.0 * sum(parameter.numel() for parameter in model.parameters()) * tokens
    return operations > WORTH_SECONDS * OPERATIONS_A_SECOND


def use_in(model: Any) -> None:
    """Compile every layer, once for all lengths; all of them are one program.

    What PyTorch cannot compile runs as it is, and PyTorch says so.
    """
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True  # noqa: SLF001 - where PyTorch documents it
    for layer in recompute.layers(model):
        layer.compile(dynamic=True)
