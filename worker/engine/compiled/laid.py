"""A model's weights as compiled code reads them: flat, in panels, all layers of a kind one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.compiled.decode import Adapter, Shape, Weights
from worker.engine.compiled.vectors import PANEL
from worker.engine.linear import Packs, Part, Unfit, joined
from worker.engine.llama import LlamaForward

_NONE = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Laid:
    """The weights of one base."""

    weights: Weights

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(array.nbytes for array in self.weights)


def laid_out(model: Any, forward: LlamaForward, packs: Packs) -> tuple[Shape, Weights, Adapter]:
    """What ``decode`` needs of ``model``; the base's weights are shared through ``packs``.

    Raises:
        Unfit: a module is neither a plain linear one nor plain LoRA on one.
    """
    inner, config = model.model, model.config
    _, queries, keys = forward.orders()
    kinds: dict[str, Callable[[Any], Part]] = {
        "qkv": lambda layer: joined(
            [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj], rows=(queries, keys)
        ),
        "out": lambda layer: joined([layer.self_attn.o_proj]),
        "gate": lambda layer: joined([layer.mlp.gate_proj]),
        "up": lambda layer: joined([layer.mlp.up_proj]),
        "down": lambda layer: joined([layer.mlp.down_proj]),
    }
    parts = {name: [part(layer) for layer in inner.layers] for name, part in kinds.items()}
    for name, found in parts.items():
        if name != "qkv" and any(part.bias is not None for part in found):
            raise Unfit(f"its {name} projection has a bias")
    head = joined([model.get_output_embeddings()])
    if head.bias is not None or head.down is not None:
        raise Unfit("its output layer has a bias or an adapter")
    key = (forward.embedding.data_ptr(), *(layer.self_attn.q_proj.weight.data_ptr() for layer in inner.layers))
    laid = packs.models.get(key)
    if not isinstance(laid, Laid):
        laid = packs.models[key] = Laid(_weights(forward, parts, head))
    rank = max((len(part.down) for found in parts.values() for part in found if part.down is not None), default=0)
    shape = Shape(
        layers=len(inner.layers),
        hidden=config.hidden_size,
        hidden_width=_up(config.hidden_size),
        heads=forward.heads,
        kv_heads=forward.kv_heads,
        head_size=forward.head_size,
        mlp=config.intermediate_size,
        mlp_width=_up(config.intermediate_size),
        vocabulary=forward.vocabulary,
        vocabulary_width=_up(forward.vocabulary),
        rank=_up(rank),
        scale=float(forward.scale),
        epsilon=float(forward.norm_epsilon),
        biased=any(part.bias is not None for part in parts["qkv"]),
        head_norms=forward.layers[0].query_norm is not None,
    )
    return shape, laid.weights, _adapter(parts, _up(rank))


def _weights(forward: LlamaForward, parts: dict[str, list[Part]], head: Part) -> Weights:
    layers = forward.layers
    turns = torch.view_as_real(forward.turns).flatten(1)
    biases = [part.bias for part in parts["qkv"] if part.bias is not None]
    norms = [(y.query_norm, y.key_norm) for y in layers]
    products = {name: np.concatenate([_panels(part.weight) for part in found]) for name, found in parts.items()}
    return Weights(
        embedding=_flat([forward.embedding]),
        before_attention=_flat([y.before_attention for y in layers]),
        before_mlp=_flat([y.before_mlp for y in layers]),
        last_norm=_flat([forward.norm]),
        qkv_bias=_flat([torch.nn.functional.pad(bias, (0, _up(len(bias)) - len(bias))) for bias in biases]),
        head=_panels(head.weight),
        query_norm=_flat([query for query, _ in norms if query is not None]),
        key_norm=_flat([key for _, key in norms if key is not None]),
        turns=_flat([turns]),
        **products,
    )


def _adapter(parts: dict[str, list[Part]], rank: int) -> Adapter:
    if rank == 0:
        return Adapter(*[_NONE] * len(Adapter._fields))
    arrays: dict[str, Any] = {}
    for name, found in parts.items():
        firsts, seconds = [], []
        for part in found:
            first, second = torch.zeros(rank, part.weight.shape[1]), torch.zeros(len(part.weight), rank)
            if part.down is not None and part.up is not None:
                first[: len(part.down)], second[:, : len(part.down)] = part.down, part.up
            firsts.append(_panels(first))
            seconds.append(_panels(second))
        arrays[name], arrays[f"{name}_up"] = np.concatenate(firsts), np.concatenate(seconds)
    return Adapter(**arrays)


def _panels(matrix: Tensor) -> Any:
    """(out, in) → flat (panels, in, ``PANEL``), its columns padded with zeros."""
    columns, depth = matrix.shape
    padded = torch.nn.functional.pad(matrix.t(), (0, _up(columns) - columns))
    return padded.reshape(depth, -1, PANEL).transpose(0, 1).contiguous().flatten().numpy()


def _flat(tensors: Sequence[Tensor]) -> Any:
    return torch.cat([t.flatten() for t in tensors]).numpy() if tensors else _NONE


def _up(number: int) -> int:
    return -(-number // PANEL) * PANEL
