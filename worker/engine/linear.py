"""Matrix products of a decoder, laid out once for the processor they run on.

On a CPU in float32 the weights are packed for oneDNN, whose kernels use the widest registers there are, take a
residual or an activation along, and give a row the same result whatever rows are computed beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

_PACKED_FOR_ROWS = 32


class Unfit(Exception):  # noqa: N818 - says what the model is, not that something went wrong
    """A model has something that the fused forward does not know; the message names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One matrix (out, in) and its bias; ``packed`` ones are opaque to everything but oneDNN."""

    matrix: Tensor
    bias: Tensor | None
    packed: bool

    @classmethod
    def of(cls, matrix: Tensor, bias: Tensor | None) -> "Weight":
        """Lay ``matrix`` out; the result shares no memory with it if it is packed."""
        if matrix.device.type == "cpu" and matrix.dtype == torch.float32 and packs():
            matrix = matrix.contiguous()
            return cls(torch.ops.mkldnn._reorder_linear_weight(matrix, _PACKED_FOR_ROWS), bias, packed=True)  # noqa: SLF001
        return cls(matrix, bias, packed=False)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.matrix, self.bias) if t is not None)

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, in) → (rows, out)."""
        if self.packed:
            return _onednn(x, self.matrix, self.bias, "none", [], "")
        return functional.linear(x, self.matrix, self.bias)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The product plus ``other`` (rows, out)."""
        if self.packed:
            return _onednn_binary(x, other, self.matrix, self.bias, "add")
        return functional.linear(x, self.matrix, self.bias).add_(other)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The product times ``other`` (rows, out), element by element."""
        if self.packed:
            return _onednn_binary(x, other, self.matrix, self.bias, "mul")
        return functional.linear(x, self.matrix, self.bias).mul_(other)

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of the product."""
        if self.packed:
            return _onednn(x, self.matrix, self.bias, "swish", [], "")
        return functional.silu(functional.linear(x, self.matrix, self.bias), inplace=True)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A matrix and, where an adapter changes it, the two thin ones of LoRA: W x + up (down x)."""

    weight: Weight
    down: Weight | None = None
    up: Weight | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, in) → (rows, out)."""
        if self.down is None or self.up is None:
            return self.weight(x)
        return self.weight.plus(x, self.up(self.down(x)))

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The product plus ``other``."""
        if self.down is None or self.up is None:
            return self.weight.plus(x, other)
        return self.weight.plus(x, self.up.plus(self.down(x), other))

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The product times ``other``."""
        return self.weight.times(x, other) if self.down is None else self(x).mul_(other)

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of the product."""
        return self.weight.silu(x) if self.down is None else functional.silu(self(x), inplace=True)

    @property
    def adapter_bytes(self) -> int:
        """Bytes of LoRA's matrices."""
        return sum(weight.nbytes for weight in (self.down, self.up) if weight is not None)


class Held(Protocol):
    """Something that takes memory."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""


@dataclass(slots=True)
class Packs:
    """What was laid out already, by the addresses of what it was made of: adapters share their base's."""

    weights: dict[tuple[int, ...], Weight] = field(default_factory=dict)
    models: dict[tuple[int, ...], "Held"] = field(default_factory=dict)
    """Whole models as compiled code reads them."""

    @property
    def held_bytes(self) -> int:
        """Bytes beside the original weights."""
        packed = sum(weight.nbytes for weight in list(self.weights.values()) if weight.packed)
        return packed + sum(model.nbytes for model in list(self.models.values()))


@dataclass(frozen=True, slots=True)
class Part:
    """Weight (out, in), bias (out,), and LoRA's two matrices, its scale multiplied into the second."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None


def projection(
    modules: Sequence[nn.Module], packs: Packs, *, rows: Sequence[Tensor | None] = (), columns: Tensor | None = None
) -> Projection:
    """One projection of several modules that read the same input, their outputs side by side.

    ``rows`` is a new order of each module's outputs, ``columns`` of the input.

    Raises:
        Unfit: a module is neither a plain linear one nor plain LoRA on one.
    """
    part = joined(modules, rows=rows, columns=columns)
    key = tuple(_part(module).weight.data_ptr() for module in modules)
    if key not in packs.weights:
        packs.weights[key] = Weight.of(part.weight, part.bias)
    if part.down is None or part.up is None:
        return Projection(packs.weights[key])
    return Projection(packs.weights[key], Weight.of(part.down, None), Weight.of(part.up, None))


def joined(modules: Sequence[nn.Module], *, rows: Sequence[Tensor | None] = (), columns: Tensor | None = None) -> Part:
    """The same as dense matrices; LoRA's stand block by block.

    Raises:
        Unfit: a module is neither a plain linear one nor plain LoRA on one.
    """
    orders = [*rows, *[None] * (len(modules) - len(rows))]
    parts = [_ordered(_part(module), order, columns) for module, order in zip(modules, orders, strict=True)]
    if len(parts) == 1:
        return parts[0]
    biases = [p.bias if p.bias is not None else p.weight.new_zeros(len(p.weight)) for p in parts]
    bias = torch.cat(biases) if any(part.bias is not None for part in parts) else None
    weight = torch.cat([part.weight for part in parts])
    downs = [part.down for part in parts if part.down is not None]
    if not downs:
        return Part(weight, bias)
    up = downs[0].new_zeros((len(weight), sum(map(len, downs))))
    row = rank = 0
    for part in parts:
        if part.up is not None:
            up[row : row + len(part.weight), rank : rank + part.up.shape[1]] = part.up
            rank += part.up.shape[1]
        row += len(part.weight)
    return Part(weight, bias, torch.cat(downs), up)


def _part(module: Any) -> Part:
    """Weight, bias, and LoRA's two matrices, its scale multiplied into the second."""
    if type(module) is nn.Linear:
        return Part(module.weight.detach(), None if module.bias is None else module.bias.detach())
    base = getattr(module, "base_layer", None)
    names = list(getattr(module, "active_adapters", []))
    if type(base) is not nn.Linear or not hasattr(module, "lora_A") or len(names) != 1:
        raise Unfit(f"it has a {type(module).__name__} where a linear layer was expected")
    (name,) = names
    if name not in module.lora_A:
        return _part(base)
    down, up = module.lora_A[name], module.lora_B[name]
    if module.merged or name in module.lora_variant or type(down) is not nn.Linear or up.bias is not None:
        raise Unfit("its adapter is more than plain LoRA")
    scaled = up.weight.detach() * module.scaling[name]
    plain = _part(base)
    return Part(plain.weight, plain.bias, down.weight.detach().to(plain.weight.dtype), scaled.to(plain.weight.dtype))


def _ordered(part: Part, rows: Tensor | None, columns: Tensor | None) -> Part:
    weight, bias, down, up = part.weight, part.bias, part.down, part.up
    if rows is not None:
        weight, bias, up = weight[rows], None if bias is None else bias[rows], None if up is None else up[rows]
    if columns is not None:
        weight, down = weight[:, columns], None if down is None else down[:, columns]
    return Part(weight, bias, down, up)


def packs() -> bool:
    """Whether this build of torch has the operators that inductor uses for packed weights."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, scalars: list[float], how: str) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, activation, scalars, how)  # noqa: SLF001
    return found


def _onednn_binary(x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, what: str) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, what)  # noqa: SLF001
    return found
