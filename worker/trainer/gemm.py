"""fp32 matrix products on AMD's CPUs through oneDNN, which PyTorch carries and uses for bf16 but not for fp32.

PyTorch's own fp32 products go to MKL, which leaves half of an AMD core unused: at the shapes of a 42 M model one
core of a Zen 5 made 60 to 110 Gflop/s with MKL and 130 to 250 with oneDNN. Both round as fp32 does; neither result
depends on anything but shapes and threads. MKL fills Intel's cores, and reads transposed operands as they lie:
gradients of weights took two thirds of oneDNN's time there. So on Intel's CPUs, and elsewhere (GPUs, ARM, a PyTorch
without oneDNN), PyTorch's own is used.
"""

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

INTEL = "GenuineIntel"
"""As Intel's CPUs name their maker."""


@cache
def available() -> bool:
    """Whether oneDNN is to make fp32 products on this machine, and this PyTorch can let it; tried once.

    Told by the CPU's maker and not by a stopwatch: the same job on the same machine is to round in the same way.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or INTEL in _maker():
        return False
    return works()


@cache
def works() -> bool:
    """Whether this PyTorch can give fp32 products to oneDNN, tried once."""
    if not bool(torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    a, b = torch.eye(3)[:2], torch.arange(12.0).view(3, 4)
    try:
        return bool(torch.equal(_product(a, b.t()), b[:2]) and torch.equal(_product(b.t(), b.t()), b.t() @ b))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _maker() -> str:
    """What names this machine's CPU and who made it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            return next((line for line in file if line.startswith("vendor_id")), "")
    except OSError:
        return platform.processor()


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """(M, N): a (M, K) times b (K, N), both of one dtype and of any strides; without gradients."""
    return _product(_dense(a), _dense(b.t())) if _is_ours(a) else a @ b


def across(a: Tensor, b: Tensor) -> Tensor:
    """(M, N): a (M, K) times the transpose of b (N, K), neither with gaps in memory; without gradients."""
    return _product(a, b) if _is_ours(a) else a @ b.t()


def outer(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """(M, K): the transpose of a (N, M) times b (N, K), without gradients: what the gradient of a weight is.

    oneDNN's first operand is transposed in memory before. Where b and the result are smaller, these are. ``out``:
    where to put it, of any dtype.
    """
    N, M, K = *a.shape, b.shape[1]
    made = matmul(b.t(), a).t() if _is_ours(a) and N * M > N * K + M * K else matmul(a.t(), b)
    return made.contiguous() if out is None else out.copy_(made)


def _is_ours(a: Tensor) -> bool:
    return a.dtype == torch.float32 and a.device.type == "cpu" and available()


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a times the transpose of b."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # noqa: SLF001
    return product


def _dense(a: Tensor) -> Tensor:
    """``a`` without gaps between rows or columns: with gaps, oneDNN falls back to loops a hundred times slower."""
    return a if a.is_contiguous() or a.t().is_contiguous() else a.contiguous()


class Linear(nn.Linear):
    """``nn.Linear`` whose fp32 products, forward and backward, go through ``matmul``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's own parameter
        """(…, out)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(…, out): ``nn.functional.linear`` by way of oneDNN where that is faster."""
    plain = type(weight) in (Tensor, nn.Parameter) and weight.dtype == x.dtype == torch.float32
    if not plain or torch.is_autocast_enabled(x.device.type) or x.device.type != "cpu":
        return nn.functional.linear(x, weight, bias)
    apply: Callable[..., Tensor] = _Linear.apply
    return apply(x, weight, bias)


def use_in(model: nn.Module) -> None:
    """Let every plain linear layer of ``model`` compute through oneDNN, where it can."""
    if not available():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # the parameters, their names and PEFT's view of the layer stay as they are


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight)
        y = matmul(rows, weight.t())
        if bias is not None:
            y += bias
        return y.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_rows = grad.reshape(-1, grad.shape[-1])
        grad_x = matmul(grad_rows, weight).view(*grad.shape[:-1], weight.shape[1]) if needs_x else None
        grad_weight = outer(grad_rows, rows) if needs_weight else None
        return grad_x, grad_weight, grad_rows.sum(0) if needs_bias else None
