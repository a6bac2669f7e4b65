"""The matrix products that a model needs, and how fast this machine makes them at those very shapes."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from worker.trainer import gemm
from worker.trainer.packing import Unit

MEASURE_SECONDS = 0.15
"""Of every product; the median counts."""


def layer_products(config: dict[str, Any]) -> list[tuple[int, int]]:
    """(out, in) of every product of one of Llama's layers."""
    D, F = config["hidden_size"], config["intermediate_size"]
    d = D // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * d
    return [(D, D), (kv, D), (kv, D), (D, D), (F, D), (F, D), (D, F)]


def forward_flops(config: dict[str, Any], units: Sequence[Unit]) -> float:
    """Of one forward pass over groups in tiles: layers, attention, head. A backward pass has twice as many.

    The last layer goes on after its attention with the positions alone that predict something.
    """
    layers, D, V = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
    products = [out * into for out, into in layer_products(config)]
    per_token, after_attention = 2.0 * layers * sum(products), 2.0 * sum(products[3:])
    total = 0.0
    for unit in units:
        lengths = [len(completion) for completion in unit.completions]
        prompt = len(unit.prompt_ids)
        seen = prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in lengths)
        total += per_token * unit.shared_length + 4.0 * layers * D * seen + 2.0 * D * V * sum(lengths)
        total -= after_attention * (unit.shared_length - sum(lengths)) + 4.0 * D * prompt * (prompt - 1) / 2
    return total


def gflops(config: dict[str, Any], rows: int, predicted: int, *, bfloat16: bool) -> float:
    """Gflop/s of this machine over the products of layers and head, forward and backward, nothing between them.

    ``rows``: tokens of a pass; ``predicted``: of them those that the head projects. Every shape counts by its flops
    and is measured the fastest way that is known here.
    """
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = [(rows, out, into) for out, into in layer_products(config)] * config["num_hidden_layers"]
    shapes.append((predicted, config["vocab_size"], config["hidden_size"]))
    seconds: dict[tuple[int, int, int], float] = {}
    for m, out, into in set(shapes):
        x, w, g = (torch.randn(shape, dtype=dtype, device=device) for shape in ((m, into), (out, into), (m, out)))
        products = ((x, w.t()), (g, w), (g.t(), x))
        seconds[m, out, into] = sum(min(_seconds(torch.matmul, *p), _seconds(gemm.matmul, *p)) for p in products)
    flops = sum(6.0 * m * out * into for m, out, into in shapes)
    return flops / sum(seconds[shape] for shape in shapes) / 1e9


def _seconds(product: Any, a: torch.Tensor, b: torch.Tensor) -> float:
    taken = []
    product(a, b)
    began = time.perf_counter()
    while time.perf_counter() - began < MEASURE_SECONDS:
        start = time.perf_counter()
        product(a, b)
        if a.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
