"""Layers of Llama's shape in tiles on a CPU, forward and backward written out: few passes over memory, few operators.

Half of a layer (norm, attention or MLP, residual) is one autograd function. It keeps its input and what its products
made, and computes again in the backward pass what is cheap: the norm and the gate's activation, and those attention
weights that are too many to keep.
The last layer goes on, after its attention, with the positions that predict a completion token, and with no others:
nobody reads the rest. Anything that is not exactly this (adapters, biases, masks) takes the model's own way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from worker.trainer import blocks, gemm

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer")
"""Classes of transformers whose layers are these."""


def use_in(decoder: Any) -> None:
    """Let the layers of ``decoder`` take this way where they can; their parameters stay where they are."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(type(layer).__name__ in LAYERS for layer in layers):
        return
    if decoder.config.hidden_act not in ("silu", "swish") or type(layers[0]) in _CLASSES.values():
        return
    made = _class_for(type(layers[0]))
    for layer in layers:
        layer.__class__ = made
        setattr(layer, "is_last", layer is layers[-1])  # noqa: B010 - no attribute that nn.Module knows of


_CLASSES: dict[type, type] = {}


def _class_for(own: type) -> type:
    """A subclass of transformers' layer that is named like it, as FSDP and PEFT look layers up by name."""
    if own not in _CLASSES:

        def forward(self: Any, hidden_states: Tensor, attention_mask: Any = None, **others: Any) -> Tensor:
            halves = _halves(self, hidden_states, attention_mask)
            if halves is None:
                return own.forward(self, hidden_states, attention_mask=attention_mask, **others)  # type: ignore[attr-defined,no-any-return]
            return halves(self, hidden_states, attention_mask, others["position_embeddings"])

        _CLASSES[own] = type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})
    return _CLASSES[own]


def _halves(layer: Any, hidden: Tensor, mask: Any) -> Callable[..., Tensor] | None:
    """How to run the layer here, or None: its own way."""
    if getattr(mask, "layout_of_groups", None) is None or hidden.device.type != "cpu":
        return None
    attention, mlp = layer.self_attn, layer.mlp
    linear = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    for module in (*linear, mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        if type(module) not in (nn.Linear, gemm.Linear) or module.bias is not None:
            return None
        if type(module.weight) not in (Tensor, nn.Parameter):
            return None
    return _run


def _run(layer: Any, hidden: Tensor, mask: Any, angles: tuple[Tensor, Tensor]) -> Tensor:
    """(1, T, D), or (1, N, D) after the last layer."""
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else hidden.dtype
    a, m, norm, after = layer.self_attn, layer.mlp, layer.input_layernorm, layer.post_attention_layernorm
    cos, sin = (angle[0, :, None, : a.head_dim // 2].to(hidden.dtype) for angle in angles)
    rows, layout = None, mask.layout_of_groups
    if layer.is_last:
        rows, layout = mask.predicting.rows, mask.predicting.layout
        mask.predicting.taken = True
    keep = torch.is_grad_enabled() and layout.keeps(a.config.num_attention_heads)
    options = _Options(cos, sin, layout, rows, a.scaling, norm.variance_epsilon, dtype, keep)
    attend: Callable[..., Tensor] = _Attention.apply
    feed: Callable[..., Tensor] = _Mlp.apply
    with torch.autocast("cpu", enabled=False):
        x = attend(hidden[0], norm.weight, *(p.weight for p in (a.q_proj, a.k_proj, a.v_proj, a.o_proj)), options)
        x = feed(
            x, after.weight, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight, after.variance_epsilon, dtype
        )
    return x[None]


@dataclass(frozen=True, slots=True)
class _Options:
    cos: Tensor
    """(T, 1, d/2)."""
    sin: Tensor
    layout: blocks.Layout
    rows: Tensor | None
    """(N,), the positions that go on after the attention; None: all."""
    scale: float
    epsilon: float
    dtype: torch.dtype
    """Of the products; norms, angles, residuals and sums are in that of the input."""
    keep: bool
    """The attention weights, for the backward pass."""


class _Attention(torch.autograd.Function):
    """x (T, D) → x + o(attention(norm(x))), of all positions (T, D) or of those asked for (N, D)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, options: _Options
    ) -> Tensor:
        ctx.options, ctx.dtype = options, wq.dtype
        rstd = _rstd(x, options.epsilon)
        h = _normed(x, rstd, scale, options.dtype)
        d = 2 * options.cos.shape[-1]
        wq, wk, wv, wo = (w.to(options.dtype) for w in (wq, wk, wv, wo))
        q, k, v = (_product(h, w).view(len(x), -1, d) for w in (wq, wk, wv))
        q, k = (_turned(t, options, 1).to(options.dtype) for t in (q, k))
        seen, saved = blocks.forward(q, k, v, options.layout, options.scale, keep=options.keep)
        seen = seen.view(len(x), -1)
        rows = options.rows
        if rows is not None:
            seen = seen.index_select(0, rows)
        y = _product(seen, wo).to(x.dtype)
        y += x if rows is None else x.index_select(0, rows)
        ctx.save_for_backward(x, scale, wq, wk, wv, wo, rstd, seen, *saved.tensors())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, wq, wk, wv, wo, rstd, seen, *saved = ctx.saved_tensors
        options: _Options = ctx.options
        upstream = grad.to(options.dtype)
        grad_wo = _weight_grad(upstream, seen, ctx.dtype, ctx.needs_input_grad[5])
        grad_seen = _input_grad(upstream, wo)
        if options.rows is not None:
            everywhere = grad_seen.new_zeros(len(x), grad_seen.shape[1])
            grad_seen = everywhere.index_add_(0, options.rows, grad_seen)
        d = 2 * options.cos.shape[-1]
        grad_q, grad_k, grad_v = blocks.backward(
            grad_seen.view(len(x), -1, d), blocks.Saved.of(*saved), options.layout, options.scale
        )
        grad_q = _turned(grad_q, options, -1).to(options.dtype)
        grad_k = _turned_back(grad_k, options).to(options.dtype)
        flat = [grad_q.view(len(x), -1), grad_k.view(-1, len(x)).t(), grad_v.view(-1, len(x)).t()]
        h = _normed(x, rstd, scale, options.dtype)
        grad_ws = [_weight_grad(t, h, ctx.dtype, ctx.needs_input_grad[2]) for t in flat]
        grad_h = _sum([_input_grad(t, w) for t, w in zip(flat, (wq, wk, wv), strict=True)], x.dtype)
        if options.rows is None:
            grad_x, grad_scale = _norm_grad(grad_h, x, rstd, scale, grad)
        else:
            passed = torch.zeros_like(x).index_add_(0, options.rows, grad)
            grad_x, grad_scale = _norm_grad(grad_h, x, rstd, scale, passed)
        return grad_x, grad_scale, *grad_ws, grad_wo, None


class _Mlp(torch.autograd.Function):
    """x (N, D) → x + down(silu(gate(norm(x))) · up(norm(x)))."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, wg: Tensor, wu: Tensor, wd: Tensor, epsilon: float, dtype: torch.dtype
    ) -> Tensor:
        ctx.dtype = wg.dtype
        rstd = _rstd(x, epsilon)
        h = _normed(x, rstd, scale, dtype)
        wg, wu, wd = (w.to(dtype) for w in (wg, wu, wd))
        gate, up = _product(h, wg), _product(h, wu)
        y = _product(functional.silu(gate).mul_(up), wd).to(x.dtype)
        y += x
        ctx.save_for_backward(x, scale, wg, wu, wd, rstd, gate, up)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, wg, wu, wd, rstd, gate, up = ctx.saved_tensors
        upstream = grad.to(gate.dtype)
        active = functional.silu(gate)
        grad_wd = _weight_grad(upstream, active * up, ctx.dtype, ctx.needs_input_grad[4])
        inner = _input_grad(upstream, wd)
        grad_up = active.mul_(inner)
        grad_gate = torch.ops.aten.silu_backward(inner.mul_(up), gate)
        h = _normed(x, rstd, scale, gate.dtype)
        grad_wg = _weight_grad(grad_gate, h, ctx.dtype, ctx.needs_input_grad[2])
        grad_wu = _weight_grad(grad_up, h, ctx.dtype, ctx.needs_input_grad[3])
        grad_h = _sum([_input_grad(grad_gate, wg), _input_grad(grad_up, wu)], x.dtype)
        grad_x, grad_scale = _norm_grad(grad_h, x, rstd, scale, grad)
        return grad_x, grad_scale, grad_wg, grad_wu, grad_wd, None, None


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """(N, out)."""
    return gemm.matmul(x, weight.t())


def _input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """(N, in)."""
    return gemm.matmul(grad, weight)


def _weight_grad(grad: Tensor, x: Tensor, dtype: torch.dtype, wanted: bool) -> Tensor | None:
    """(out, in), in the weight's ``dtype``."""
    return gemm.outer(grad, x).to(dtype) if wanted else None


def _sum(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """The sum in ``dtype``. Consumes the first part."""
    total = parts[0].to(dtype)
    for part in parts[1:]:
        total += part
    return total


def _rstd(x: Tensor, epsilon: float) -> Tensor:
    """(N, 1): one over the root of the mean square."""
    size: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return size.square_().div_(x.shape[1]).add_(epsilon).rsqrt_()


def _normed(x: Tensor, rstd: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, D): RMSNorm."""
    return (x * rstd).mul_(scale).to(dtype)


def _norm_grad(grad: Tensor, x: Tensor, rstd: Tensor, scale: Tensor, passed: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a norm's input, ``passed`` (that of the residual) added, and of its weight. Consumes ``grad``."""
    unit = x * rstd
    grad_scale = (grad * unit).sum(0)
    grad *= scale
    along = (grad * unit).mean(1, keepdim=True)
    grad -= unit.mul_(along)
    return torch.addcmul(passed, grad, rstd), grad_scale


def _turned(x: Tensor, options: _Options, sign: int) -> Tensor:
    """(T, H, d): rotary positions, or with ``sign`` −1 their gradient."""
    half = x.shape[2] // 2
    first, second = x[..., :half], x[..., half:]
    out = torch.empty(x.shape, dtype=options.cos.dtype)
    torch.mul(first, options.cos, out=out[..., :half]).addcmul_(second, options.sin, value=-sign)
    torch.mul(second, options.cos, out=out[..., half:]).addcmul_(first, options.sin, value=sign)
    return out


def _turned_back(grad: Tensor, options: _Options) -> Tensor:
    """(K, d, T): the gradient of what was turned, as the attention gives it."""
    first, second = grad.chunk(2, 1)
    out = torch.empty(grad.shape, dtype=options.cos.dtype)
    cos, sin = (angle[:, 0].t() for angle in (options.cos, options.sin))
    above, below = out.chunk(2, 1)
    torch.mul(first, cos, out=above).addcmul_(second, sin)
    torch.mul(second, cos, out=below).addcmul_(first, sin, value=-1)
    return out
