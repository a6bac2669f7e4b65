"""Chunked log-probs and their gradients against a plain log-softmax."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from worker.trainer import logprobs
from worker.trainer.logprobs import Head, token_logps

N, D, V = 7, 4, 11


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator, dtype=dtype)
    weight, bias = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((V, D), (V,)))
    return hidden, weight, bias, torch.randint(V, (N,), generator=generator)


def naive(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, head: Head) -> Tensor:
    logits = (hidden @ weight.T + bias) * head.scale
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits.log_softmax(-1)[torch.arange(N), targets]


@pytest.mark.parametrize("trained", [False, True], ids=["frozen head", "trained head"])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, None), (1.0, 2.0), (0.5, 3.0)])
@pytest.mark.parametrize("chunk", [V, 3 * V, 100 * V])
@pytest.mark.parametrize("kept", [0, 4, 100], ids=["recomputed", "4 positions kept", "all kept"])
@pytest.mark.parametrize("columns", [1, 3, V], ids=["a token at a time", "three tokens", "whole vocabulary"])
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
    trained: bool,
    scale: float,
    softcap: float | None,
    chunk: int,
    kept: int,
    columns: int,
) -> None:
    monkeypatch.setattr(logprobs, "KEPT_ELEMENTS", {"cpu": kept * V})
    monkeypatch.setattr(logprobs, "COLUMNS", {"cpu": columns})
    monkeypatch.setattr(logprobs, "SOFTMAX_ELEMENTS", {"cpu": 2 * V})
    hidden, weight, bias, targets = inputs()
    linear = nn.Linear(D, V, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    linear.requires_grad_(trained)
    head = Head(linear, scale, softcap)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    expected_weight, expected_bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()

    got = token_logps(ours, targets, head, chunk)
    expected = naive(theirs, expected_weight, expected_bias, targets, head)
    torch.testing.assert_close(got, expected)

    upstream = torch.linspace(-1, 1, N, dtype=torch.float64)
    got.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)
    if trained:
        torch.testing.assert_close(linear.weight.grad, expected_weight.grad)
        torch.testing.assert_close(linear.bias.grad, expected_bias.grad)
    else:
        assert linear.weight.grad is None


def test_gradcheck() -> None:
    hidden, weight, bias, targets = inputs()
    linear = nn.Linear(D, V, dtype=torch.float64)

    def logps(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        linear.weight, linear.bias = nn.Parameter(w), nn.Parameter(b)
        return token_logps(h, targets, Head(linear, 0.7, 2.0), 2 * V)

    assert torch.autograd.gradcheck(lambda h: logps(h, weight, bias), (hidden.requires_grad_(),))


def test_a_head_that_is_more_than_linear_is_recomputed_and_right() -> None:
    hidden, weight, bias, targets = inputs()
    linear = nn.Linear(D, V, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    ours = hidden.clone().requires_grad_()
    got = token_logps(ours, targets, Head(nn.Sequential(linear)), 2 * V)
    expected = naive(hidden, weight, bias, targets, Head(linear))
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    assert ours.grad is not None


@pytest.mark.parametrize(
    ("columns", "shapes"),
    [
        (V, [(3, V), (2, V), (2, V), (2, V), (2, V)]),
        (4, [(3, 5), (3, 6), *[(4, 3), (4, 4), (4, 4)] * 2]),
    ],
    ids=["whole vocabulary", "parts of it"],
)
def test_no_more_logits_than_the_chunk_at_once(
    monkeypatch: pytest.MonkeyPatch, columns: int, shapes: list[tuple[int, int]]
) -> None:
    """Of 7 positions, 3 are kept and made once; the other 4 forward and backward, in chunks of at most 22 logits."""
    monkeypatch.setattr(logprobs, "KEPT_ELEMENTS", {"cpu": 3 * V})
    monkeypatch.setattr(logprobs, "COLUMNS", {"cpu": columns})
    hidden, _, _, targets = inputs(torch.float32)
    linear = nn.Linear(D, V)
    made: list[tuple[int, int]] = []
    original = logprobs._spread

    def spy(logits: Tensor, *others: Any, **options: Any) -> tuple[Tensor, Tensor]:
        made.append(tuple(logits.shape))  # type: ignore[arg-type]
        return original(logits, *others, **options)

    monkeypatch.setattr(logprobs, "_spread", spy)
    token_logps(hidden.requires_grad_(), targets, Head(linear), 2 * V).sum().backward()
    assert made == shapes


def test_tokens_that_cannot_come_fill_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias of −inf on the padding of a vocabulary: no share, no gradient, nothing that is not a number."""
    monkeypatch.setattr(logprobs, "COLUMNS", {"cpu": 3})
    hidden, weight, bias, _ = inputs()
    bias[6:] = -torch.inf
    targets = torch.arange(N) % 6
    linear = nn.Linear(D, V, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    got = token_logps(ours, targets, Head(linear), 3 * N)
    expected = naive(theirs, weight, bias, targets, Head(linear))
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not linear.weight.grad[6:].any()  # type: ignore[index]


def test_no_positions_have_no_log_probs() -> None:
    linear = nn.Linear(D, V)
    hidden = torch.zeros(0, D, requires_grad=True)
    got = token_logps(hidden, torch.zeros(0, dtype=torch.long), Head(linear))
    assert got.shape == (0,)
    got.sum().backward()
    assert hidden.grad is not None
    assert not linear.weight.grad.any()  # type: ignore[union-attr]


def test_sums_are_fp32_under_bfloat16() -> None:
    """A bf16 log-softmax would be off by its 8 bits; the products' rounding is all that may remain."""
    hidden, weight, _, targets = inputs(torch.float32)
    linear = nn.Linear(D, V, bias=False)
    linear.weight = nn.Parameter(weight.bfloat16().float())
    hidden = hidden.bfloat16().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = token_logps(hidden, targets, Head(linear))
    logits = (hidden.bfloat16() @ linear.weight.bfloat16().T).float()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, logits.log_softmax(-1)[torch.arange(N), targets])
