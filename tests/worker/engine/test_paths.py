"""Each way to compute a token (compiled, fused, transformers' own) against ``generate`` itself."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from scipy.stats import chi2_contingency

from tests.factories.models import random_model
from tests.worker.engine.running import request_of, run
from worker.engine.compiled.runner import CompiledRunner
from worker.engine.fit import make_lane
from worker.engine.linear import Packs
from worker.engine.runner import FusedRunner, TransformersRunner
from worker.engine.slots import SlotLane

PROMPT = [7, 31, 12, 90, 45, 18, 60]
SETTINGS: dict[str, Any] = {"temperature": 0.4, "top_k": 40, "top_p": 0.95, "min_p": 0.02}
DRAWS = 4096
PATHS = ("compiled", "fused", "transformers")


def lane_on(path: str, model: Any) -> SlotLane:
    """A lane that computes tokens in one way only."""
    room: dict[str, Any] = {"context_length": 256, "max_rows": 64, "reserve": lambda _bytes: True}
    if path == "fused":
        return SlotLane(FusedRunner(model, context_length=256, packs=Packs()), **room)
    lane = make_lane(model, fused=path == "compiled", **room)
    assert isinstance(lane, SlotLane)
    assert type(lane.runner) is (CompiledRunner if path == "compiled" else TransformersRunner)
    return lane


def sharp_model() -> Any:
    """One whose next token depends on the last ones: a random model's logits are nearly flat."""
    model = random_model("llama", tie_word_embeddings=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(5)
    return model


def generated(model: Any, seed: int, **settings: Any) -> list[tuple[int, ...]]:
    """The three tokens of each of ``generate``'s own samples."""
    torch.manual_seed(seed)
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, num_return_sequences=DRAWS, max_new_tokens=3,
            min_new_tokens=3, eos_token_id=None, pad_token_id=0, **settings,
        )  # fmt: skip
    return [tuple(row) for row in out[:, len(PROMPT) :].tolist()]


def two_sample_p(first: Iterable[tuple[int, ...]], second: Iterable[tuple[int, ...]]) -> float:
    """Chi-square of whether two lots of sequences have one distribution; the rare ones are one class."""
    counts = [Counter(lot) for lot in (first, second)]
    common = [key for key, seen in (counts[0] + counts[1]).items() if seen >= 20]
    table = [[lot[key] for key in common] for lot in counts]
    rest = [sum(lot.values()) - sum(row) for lot, row in zip(counts, table, strict=True)]
    assert len(common) > 20, "too few classes to tell anything"
    rows = [[*row, left] for row, left in zip(table, rest, strict=True)] if sum(rest) else table
    return float(chi2_contingency(rows).pvalue)


def test_samples_have_the_distribution_of_generates_own() -> None:
    """All three tokens at once, under every filter. The same test tells a slightly warmer sampler from it."""
    model = sharp_model()
    theirs = generated(model, 0, **SETTINGS)
    assert two_sample_p(theirs, generated(model, 1, **SETTINGS)) > 1e-3
    assert two_sample_p(theirs, generated(model, 1, **SETTINGS | {"temperature": 0.44})) < 1e-6, "it can fail"
    for path in PATHS:
        requests = [
            request_of(PROMPT, n=16, seed=seed, max_tokens=3, eos=frozenset(), **SETTINGS)
            for seed in range(DRAWS // 16)
        ]
        ours = [tuple(ids) for samples in run(lane_on(path, model), *requests) for ids in samples]
        assert two_sample_p(theirs, ours) > 1e-3, path


@pytest.mark.parametrize("path", PATHS)
def test_greedy_is_generates_and_a_crowd_changes_nothing(path: str) -> None:
    model = sharp_model()
    lane = lane_on(path, model)
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=60, eos_token_id=None,
            pad_token_id=0,
        )[0, len(PROMPT) :].tolist()  # fmt: skip

    def crowd() -> list[Any]:
        return [request_of(PROMPT[: 1 + i], n=3, seed=i, max_tokens=20 + 5 * i, eos=frozenset()) for i in range(6)]

    greedy = request_of(PROMPT, temperature=0.0, max_tokens=60, eos=frozenset())
    warm = {"n": 2, "seed": 5, "max_tokens": 60, "eos": frozenset()} | SETTINGS
    (alone,) = run(lane, request_of(PROMPT, **warm))
    *_, found, mine = run(lane, *crowd(), greedy, request_of(PROMPT, **warm))
    assert found == [expected]
    assert mine == alone
