"""The draw itself: filters exact on known logits, frequencies as the softmax has them."""

import math
from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.worker.engine.running import p_value
from worker.engine.params import SamplingParams, Uniforms
from worker.engine.sampling import BatchParams, by_operators, sample, token_logprobs

# Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625 for tokens 2, 0, 4, 1, 3.
KNOWN = torch.tensor([0.25, 0.0625, 0.5, 0.0625, 0.125]).log()


def draw(logits: Tensor, count: int, **settings: object) -> list[int]:
    """``count`` draws at evenly spread uniforms: every token that can be drawn at all is."""
    params = SamplingParams(seed=0, **settings)  # type: ignore[arg-type]
    batch = BatchParams.of([params] * count, logits.shape[-1], torch.device("cpu"))
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return sample(logits.expand(count, -1), batch, uniform).tolist()


def shares(logits: Tensor, count: int = 1600, **settings: object) -> list[float]:
    drawn = draw(logits, count, **settings)
    return [drawn.count(token) / count for token in range(logits.shape[-1])]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.25, 0.0625, 0.5, 0.0625, 0.125]),
        # p^(1/T) renormalised: squares at T = 0.5, 4 16ths : 1/16 : 16/16 : 1/16 : 1 over 1/4 + 1/16 …
        ({"temperature": 0.5}, [16 / 86, 1 / 86, 64 / 86, 1 / 86, 4 / 86]),
        ({"top_k": 2}, [1 / 3, 0, 2 / 3, 0, 0]),
        ({"top_k": 1}, [0, 0, 1, 0, 0]),
        # mass before a token, likeliest first: 0, 0.5, 0.75, 0.875 … the first at or past top_p goes
        ({"top_p": 0.5}, [0, 0, 1, 0, 0]),
        ({"top_p": 0.51}, [1 / 3, 0, 2 / 3, 0, 0]),
        ({"top_p": 0.76}, [2 / 7, 0, 4 / 7, 0, 1 / 7]),
        # over what top_k left (2/3, 1/3), not over everything
        ({"top_k": 2, "top_p": 0.6}, [0, 0, 1, 0, 0]),
        ({"min_p": 0.25}, [2 / 7, 0, 4 / 7, 0, 1 / 7]),
        ({"min_p": 0.26}, [1 / 3, 0, 2 / 3, 0, 0]),
        ({"temperature": 0.0}, [0, 0, 1, 0, 0]),
    ],
)
def test_filters_are_exact_on_known_logits(settings: dict[str, float], expected: list[float]) -> None:
    """The share of evenly spread uniforms that lands on a token is its probability, up to one draw."""
    for share, wanted in zip(shares(KNOWN, **settings), expected, strict=True):
        assert share == pytest.approx(wanted, abs=1.5 / 1600)
        assert (share > 0) == (wanted > 0)


@pytest.mark.parametrize("way", [sample, by_operators], ids=["compiled", "operators"])
def test_filters_are_those_of_transformers(way: Callable[[Tensor, BatchParams, Tensor], Tensor]) -> None:
    """Random logits and settings, against the distribution that transformers' own processors leave of them."""
    generator, settings = torch.Generator().manual_seed(4), Random(4)
    count, ids = 2000, torch.zeros(1, 1, dtype=torch.long)
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    for _ in range(60):
        vocabulary = settings.randrange(4, 300)
        logits = torch.randn(vocabulary, generator=generator) * settings.choice([0.1, 1.0, 4.0])
        temperature, top_k = settings.choice([0.3, 0.7, 1.0, 1.6]), settings.choice([0, 1, 3, 50])
        top_p, min_p = settings.choice([1.0, 0.5, 0.9, 0.99]), settings.choice([0.0, 0.02, 0.2])
        processors = [
            *([TemperatureLogitsWarper(temperature)] if temperature != 1 else []),
            *([TopKLogitsWarper(top_k)] if top_k else []),
            *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
            *([MinPLogitsWarper(min_p)] if min_p else []),
        ]
        expected = LogitsProcessorList(processors)(ids, logits[None].clone())[0].double().softmax(-1)
        row = SamplingParams(seed=0, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        batch = BatchParams.of([row] * count, vocabulary, torch.device("cpu"))
        drawn = torch.bincount(way(logits.expand(count, -1), batch, uniform), minlength=vocabulary) / count
        assert (drawn - expected).abs().max() <= 2 / count, row
        assert not drawn[expected == 0].any(), row


def test_rows_keep_their_own_settings() -> None:
    rows = [
        SamplingParams(seed=0, temperature=0.0),
        SamplingParams(seed=0, top_k=2),
        SamplingParams(seed=0, top_p=0.6),
        SamplingParams(seed=0),
    ]
    batch = BatchParams.of(rows, 5, torch.device("cpu"))
    last = sample(KNOWN.expand(4, -1), batch, torch.full((4,), 0.999, dtype=torch.float64)).tolist()
    assert last == [2, 2, 2, 4]
    first = sample(KNOWN.expand(4, -1), batch, torch.zeros(4, dtype=torch.float64)).tolist()
    assert first == [2, 0, 0, 0]


@pytest.mark.parametrize("vocabulary", [5, 127, 128, 129, 3000])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.9999])
def test_top_p_agrees_with_sorting_everything(vocabulary: int, top_p: float) -> None:
    """Flat and peaked rows, wider than the candidates that are looked at first."""
    generator = torch.Generator().manual_seed(vocabulary)
    for scale in (0.01, 1.0, 8.0):
        logits = torch.randn(vocabulary, generator=generator) * scale
        probs = logits.double().softmax(-1)
        ordered, order = probs.sort(descending=True)
        kept = set(order[(ordered.cumsum(-1) - ordered) < top_p].tolist())
        drawn = set(draw(logits, 1000, top_p=top_p))
        assert drawn <= kept
        likely = {token for token in kept if probs[token] > 2 / 1000}
        assert likely <= drawn


def test_extreme_uniforms_never_draw_what_has_no_probability() -> None:
    logits = torch.full((300,), -math.inf)
    logits[[3, 130, 256]] = 0.0
    batch = BatchParams.of([SamplingParams(seed=0)] * 3, 300, torch.device("cpu"))
    edges = torch.tensor([0.0, 0.5, 1 - 2**-52], dtype=torch.float64)
    assert sample(logits.expand(3, -1), batch, edges).tolist() == [3, 130, 256]


def test_frequencies_follow_the_softmax() -> None:
    """Chi-square over 40,000 draws with the engine's own stream of uniforms."""
    logits = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2
    stream = Uniforms(7, 0)
    numbers = torch.tensor([next(stream) for _ in range(40_000)], dtype=torch.float64)
    batch = BatchParams.of([SamplingParams(seed=0)] * 40_000, 40, torch.device("cpu"))
    counts = torch.bincount(sample(logits.expand(40_000, -1), batch, numbers), minlength=40).double()
    expected = logits.double().softmax(-1) * 40_000
    assert p_value(counts, expected) > 1e-3


def test_uniforms_are_fixed_for_good_and_differ_by_seed_and_choice() -> None:
    """Recorded once: another numpy or another process must give the same numbers."""
    first = Uniforms(42, 0)
    assert [round(next(first), 12) for _ in range(3)] == [0.820198147861, 0.189245624086, 0.867660814882]
    heads = {(seed, choice): next(Uniforms(seed, choice)) for seed in (-1, 0, 1, 2**62) for choice in range(8)}
    assert len(set(heads.values())) == len(heads)


def test_logprobs_are_of_the_plain_softmax() -> None:
    own, best, ids = token_logprobs(KNOWN[None], torch.tensor([4]), 2)
    assert own.item() == pytest.approx(math.log(0.125))
    assert ids.tolist() == [[2, 0]]
    assert best[0].tolist() == pytest.approx([math.log(0.5), math.log(0.25)])
