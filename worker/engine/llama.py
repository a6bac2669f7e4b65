"""A forward of our own for decoders of Llama's shape: few operators, weights laid out once, KV memory in place.

A step of a small model is spent between the operators, not in them. Here a layer is ten of them: queries, keys and
values are one product, the rotation of both is one complex multiplication (their rows are reordered so that the two
halves of a pair lie side by side), keys and values go to memory in one copy, the heads of a group attend as rows of
one query, and residuals and activations ride along with the products they belong to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.linear import Packs, Projection, Unfit, projection

KNOWN = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Values of ``model_type`` whose layers have this shape; whether one really has it is tried out in ``fit``."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer's weights."""

    before_attention: Tensor
    before_mlp: Tensor
    qkv: Projection
    out: Projection
    gate: Projection
    up: Projection
    down: Projection
    query_norm: Tensor | None
    key_norm: Tensor | None


class LlamaForward:
    """Weights and arithmetic; the memory it writes to is the caller's."""

    def __init__(self, model: Any, *, context_length: int, packs: Packs) -> None:
        """Lay out the weights of transformers' ``model``; those that ``packs`` has are shared.

        Raises:
            Unfit: it is no decoder of this shape.
        """
        config = model.config
        if config.model_type not in KNOWN:
            raise Unfit(f"{config.model_type} is not one of {', '.join(sorted(KNOWN))}")
        if config.hidden_act != "silu":
            raise Unfit(f"its activation is {config.hidden_act}")
        inner = model.model
        attention = inner.layers[0].self_attn
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_size: int = attention.head_dim
        self.scale: float = attention.scaling
        self.norm_epsilon: float = config.rms_norm_eps
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        self.group = self.heads // self.kv_heads
        self._query_size = self.heads * self.head_size
        self._rotated = self.heads + self.kv_heads
        with torch.no_grad():
            self.embedding: Tensor = inner.embed_tokens.weight.detach()
            self.norm: Tensor = inner.norm.weight.detach()
            self.head = projection([model.get_output_embeddings()], packs)
            self.layers = [self._layer(layer, packs) for layer in inner.layers]
            self.turns = _rotations(inner.rotary_emb, context_length)
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]

    @property
    def adapter_bytes(self) -> int:
        """Bytes of what an adapter adds."""
        return sum(p.adapter_bytes for y in self.layers for p in (y.qkv, y.out, y.gate, y.up, y.down))

    @property
    def kv_size(self) -> int:
        """Numbers per token and layer: keys and values of all heads."""
        return 2 * self.kv_heads * self.head_size

    def decode(self, ids: Tensor, positions: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """One token for each of the first rows of ``memory``.

        Args:
            ids: (rows,) the tokens.
            positions: (rows,) where they stand, and where in their row of the memory their keys and values go.
            memory: (layers, slots, capacity, kv_size), written in place.
            mask: (rows, window) added to the scores: 0 where a slot is filled (this token included), else -inf.

        Returns:
            (rows, vocabulary) logits.
        """
        rows, window = mask.shape
        capacity = memory.shape[2]
        places = torch.arange(rows, device=ids.device) * capacity + positions
        turns = self.turns.index_select(0, positions)[:, None]
        wide = mask[:, None, None]
        x = self.embedding.index_select(0, ids)
        for index, layer in enumerate(self.layers):
            qkv = self._qkv(layer, x, turns)
            memory[index].view(-1, self.kv_size).index_copy_(0, places, qkv[:, self._query_size :])
            kept = memory[index, :rows, :window].view(rows, window, 2, self.kv_heads, self.head_size)
            keys, values = kept.permute(2, 0, 3, 1, 4).unbind(0)
            queries = qkv[:, : self._query_size].view(rows, self.kv_heads, self.group, self.head_size)
            seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=wide, scale=self.scale)
            x = self._after_attention(layer, x, seen.transpose(1, 2).reshape(rows, -1))
        return self._logits(x)

    def prefill(self, prompts: Sequence[tuple[Sequence[int], int, Tensor]], *, rows: int, every: bool) -> Tensor:
        """Compute pieces of prompts, packed one after the other without padding between them.

        Args:
            prompts: for each, the ids of the piece, how many tokens of its prompt were computed before, and the
                memory (layers, at least both together, kv_size) that has those and takes these.
            rows: logits are made for at least so many rows; the last is repeated.
            every: logits at every position instead of at the last one of each piece.

        Returns:
            (rows, vocabulary) logits.
        """
        ids = [token for piece, _, _ in prompts for token in piece]
        at = [place for piece, start, _ in prompts for place in range(start, start + len(piece))]
        spare = -len(ids) % rows
        positions = torch.tensor(at + [0] * spare, device=self.device)
        turns = self.turns.index_select(0, positions)[:, None]
        x = self.embedding.index_select(0, torch.tensor(ids + [0] * spare, device=self.device))
        masks = [_causal(len(piece), start, self.device) for piece, start, _ in prompts]
        for index, layer in enumerate(self.layers):
            qkv = self._qkv(layer, x, turns)
            seen = torch.zeros((len(x), self._query_size), dtype=self.dtype, device=self.device)
            first = 0
            for (piece, start, memory), mask in zip(prompts, masks, strict=True):
                end = first + len(piece)
                memory[index, start : start + len(piece)] = qkv[first:end, self._query_size :]
                seen[first:end] = self._attend(qkv[first:end], memory[index, : start + len(piece)], mask)
                first = end
            x = self._after_attention(layer, x, seen)
        if every:
            return self._logits(x)
        ends = torch.tensor([len(piece) for piece, _, _ in prompts]).cumsum(0).sub(1).tolist()
        ends += ends[-1:] * (-len(ends) % rows)
        return self._logits(x.index_select(0, torch.tensor(ends, device=self.device)))

    def _attend(self, qkv: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """(tokens, query size) of one piece: causal where ``mask`` is None."""
        tokens, total = len(qkv), len(memory)
        queries = qkv[:, : self._query_size].view(1, tokens, self.heads, self.head_size).transpose(1, 2)
        kept = memory.view(total, 2, self.kv_heads, 1, self.head_size).permute(1, 2, 3, 0, 4)
        keys, values = kept.expand(-1, -1, self.group, -1, -1).reshape(2, 1, self.heads, total, self.head_size)
        found = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None and tokens > 1, scale=self.scale
        )
        # In the order (group, KV head) of decode's, which the output's columns are laid out for.
        grouped = found[0].view(self.kv_heads, self.group, tokens, self.head_size).permute(2, 1, 0, 3)
        return grouped.reshape(tokens, self._query_size)

    def _qkv(self, layer: Layer, x: Tensor, turns: Tensor) -> Tensor:
        """(rows, query size + kv_size): queries and keys rotated."""
        qkv = layer.qkv(functional.rms_norm(x, self.norm.shape, layer.before_attention, self.norm_epsilon))
        rotated = qkv[:, : self._rotated * self.head_size].view(len(x), self._rotated, self.head_size)
        if layer.query_norm is not None and layer.key_norm is not None:
            shape, heads = (self.head_size,), self.heads
            rotated[:, :heads] = functional.rms_norm(rotated[:, :heads], shape, layer.query_norm, self.norm_epsilon)
            rotated[:, heads:] = functional.rms_norm(rotated[:, heads:], shape, layer.key_norm, self.norm_epsilon)
        if self.dtype == torch.float32:
            torch.view_as_complex(rotated.view(*rotated.shape[:2], -1, 2)).mul_(turns)
        else:
            wide = torch.view_as_complex(rotated.float().view(*rotated.shape[:2], -1, 2))
            rotated.copy_(torch.view_as_real(wide * turns).flatten(-2))
        return qkv

    def _after_attention(self, layer: Layer, x: Tensor, seen: Tensor) -> Tensor:
        x = layer.out.plus(seen, x)
        inside = functional.rms_norm(x, self.norm.shape, layer.before_mlp, self.norm_epsilon)
        return layer.down.plus(layer.up.times(inside, layer.gate.silu(inside)), x)

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(functional.rms_norm(x, self.norm.shape, self.norm, self.norm_epsilon))

    def orders(self) -> tuple[Tensor, Tensor, Tensor]:
        """New order of one head's numbers, of all queries, and of all keys: a pair that turns lies side by side."""
        pairs = torch.arange(self.head_size, device=self.device).view(2, -1).t().flatten()
        return pairs, _within_heads(pairs, self.heads), _within_heads(pairs, self.kv_heads)

    def _layer(self, layer: Any, packs: Packs) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        pairs, queries, keys = self.orders()
        by_group = torch.arange(self._query_size, device=self.device)
        by_group = by_group.view(self.kv_heads, self.group, self.head_size).transpose(0, 1).flatten()
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        return Layer(
            before_attention=layer.input_layernorm.weight.detach(),
            before_mlp=layer.post_attention_layernorm.weight.detach(),
            qkv=projection([attention.q_proj, attention.k_proj, attention.v_proj], packs, rows=(queries, keys)),
            out=projection([attention.o_proj], packs, columns=by_group),
            gate=projection([mlp.gate_proj], packs),
            up=projection([mlp.up_proj], packs),
            down=projection([mlp.down_proj], packs),
            query_norm=None if norms[0] is None else norms[0].weight.detach()[pairs],
            key_norm=None if norms[1] is None else norms[1].weight.detach()[pairs],
        )


def _within_heads(order: Tensor, heads: int) -> Tensor:
    """``order`` of one head's numbers, for ``heads`` of them one after the other."""
    return (torch.arange(heads, device=order.device)[:, None] * len(order) + order).flatten()


def _rotations(rotary: Any, context_length: int) -> Tensor:
    """(context, half a head) complex64: how far each pair turns at each position."""
    frequencies = rotary.inv_freq.float()
    angles = torch.arange(context_length, device=frequencies.device).float()[:, None] * frequencies
    return torch.complex(angles.cos(), angles.sin()) * float(rotary.attention_scaling)


def _causal(tokens: int, start: int, device: torch.device) -> Tensor | None:
    """(tokens, start + tokens) bool: what each token of a later piece sees; None for a first piece."""
    if start == 0:
        return None
    place = torch.arange(start, start + tokens, device=device)
    return torch.arange(start + tokens, device=device)[None] <= place[:, None]
