"""Lanes against ``generate``, and requests against their company."""

from typing import Any

import pytest
import torch

from tests.factories.models import ARCHITECTURES, VOCABULARY, random_model
from tests.worker.engine.running import EOS, lane_of, p_value, request_of, run
from worker.engine.fit import make_lane
from worker.engine.lane import CHUNK_TOKENS
from worker.engine.lockstep import LockstepLane
from worker.engine.runner import FusedRunner, TransformersRunner
from worker.engine.slots import SlotLane

SLOTTED = ("llama", "qwen3", "phi3", "gpt2", "gpt_neox", "olmo", "olmo2")
FUSED = ("llama", "qwen3")


def prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, VOCABULARY, (length,), generator=generator).tolist()


def greedy(model: Any, ids: list[int], max_tokens: int) -> list[int]:
    """``generate``'s own greedy continuation, end token included."""
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), do_sample=False,
            max_new_tokens=max_tokens, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
    return out[0, len(ids) :].tolist()


def plain_logprobs(model: Any, ids: list[int], following: list[int]) -> list[float]:
    """Log-probs of the tokens that follow, from one forward without any cache."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids + following])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, torch.tensor(following)[:, None]).squeeze(-1).tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_what_generate_gives(architecture: str) -> None:
    """Prompts of many lengths in one batch, some sharing a forward, some leaving early."""
    model = random_model(architecture)
    lane = lane_of(architecture)
    assert isinstance(lane, SlotLane if architecture in SLOTTED else LockstepLane)
    if isinstance(lane, SlotLane):
        assert isinstance(lane.runner, FusedRunner if architecture in FUSED else TransformersRunner)
    lengths = [1, 3, 15, 16, 17, 30, 40, 64, 70, 130, 200]
    requests = [
        request_of(prompt(length, length), temperature=0.0, max_tokens=10 + index * 3, logprobs=0)
        for index, length in enumerate(lengths)
    ]
    for request, (found,) in zip(requests, run(lane, *requests), strict=True):
        group = request.groups[0]
        assert found == greedy(model, group.prompt_ids, group.params.max_tokens)
        # Greedy tokens of a random model say little about its memory; their log-probs say everything.
        assert [entry.logprob for entry in request.samples[0].logprobs] == pytest.approx(
            plain_logprobs(model, group.prompt_ids, found), abs=1e-4
        )


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_prompts_longer_than_a_chunk(architecture: str) -> None:
    context = 3 * CHUNK_TOKENS
    model = random_model(architecture, max_position_embeddings=context)
    lane = lane_of(architecture, context_length=context)
    lengths = [CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 100]
    requests = [request_of(prompt(length, 1), temperature=0.0, max_tokens=8) for length in lengths]
    others = [request_of(prompt(20, seed), n=2, seed=seed, max_tokens=60) for seed in range(3)]
    found = run(lane, *others, *requests)[len(others) :]
    for length, (ids,) in zip(lengths, found, strict=True):
        assert ids == greedy(model, prompt(length, 1), 8)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "gemma3_text"])
def test_same_request_same_tokens_alone_or_in_a_crowd(architecture: str) -> None:
    """Token for token, whatever runs beside it, in whatever order they came, started whenever."""

    def wanted() -> Any:
        return request_of(prompt(21, 5), n=3, seed=11, max_tokens=50, eos=frozenset(), logprobs=0)

    alone = wanted()
    (expected,) = run(lane_of(architecture), alone)
    exact = [[entry.logprob for entry in sample.logprobs] for sample in alone.samples]
    lane = lane_of(architecture)
    for crowd in (1, 4, 9):
        others = [
            request_of(prompt(5 + 13 * i, i), n=1 + i % 3, seed=i, max_tokens=20 + i, eos=frozenset(range(60)))
            for i in range(crowd)
        ]
        middle = len(others) // 2
        mine = wanted()
        assert run(lane, *others[:middle], mine, *others[middle:])[middle] == expected
        again = [[entry.logprob for entry in sample.logprobs] for sample in mine.samples]
        assert again == exact, "not only the tokens: the log-probs are the same bit for bit"


def test_joining_a_running_batch_changes_nothing() -> None:
    lane = lane_of()
    first, second = (request_of(prompt(9, s), n=2, seed=s, max_tokens=40, eos=frozenset()) for s in (1, 2))
    with torch.inference_mode():
        lane.waiting.extend(first.groups)
        for _ in range(7):
            lane.step()
        lane.waiting.extend(second.groups)
        while lane.running:
            lane.step()
    for seed, request in ((1, first), (2, second)):
        (alone,) = run(lane_of(), request_of(prompt(9, seed), n=2, seed=seed, max_tokens=40, eos=frozenset()))
        assert [sample.token_ids for sample in request.samples] == alone


def test_samples_of_a_prompt_differ_and_seeds_matter() -> None:
    (first,), (second,) = (run(lane_of(), request_of(prompt(9, 1), n=4, seed=seed)) for seed in (1, 2))
    assert len({tuple(ids) for ids in first + second}) == 8


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_end_token_is_kept_and_ends_the_sample(architecture: str) -> None:
    """A finished sample leaves; the others go on."""
    lane = lane_of(architecture)
    ends = frozenset(range(0, VOCABULARY, 20))
    request = request_of(prompt(9, 1), n=8, eos=ends, max_tokens=30)
    run(lane, request)
    reasons = set()
    for sample in request.samples:
        reasons.add(sample.finish_reason)
        assert not set(sample.token_ids[:-1]) & ends
        assert (sample.token_ids[-1] in ends) == (sample.finish_reason == "stop")
        assert len(sample.token_ids) == 30 or sample.finish_reason == "stop"
    assert reasons == {"stop", "length"}
    assert lane.running == 0


def test_an_end_token_in_the_last_place_is_a_stop() -> None:
    (first,) = run(lane_of(), request_of(prompt(9, 1), max_tokens=1, temperature=0.0))[0]
    request = request_of(prompt(9, 1), max_tokens=1, temperature=0.0, eos=frozenset(first))
    run(lane_of(), request)
    assert request.samples[0].finish_reason == "stop"
    assert request.samples[0].token_ids == first


def test_stop_token_ids_are_named_and_ignored_eos_is_not() -> None:
    (ids,) = run(lane_of(), request_of(prompt(9, 1), eos=frozenset(), max_tokens=12))[0]
    stopped = request_of(prompt(9, 1), eos=frozenset(), max_tokens=12, stop_token_ids=frozenset(ids[5:6]))
    run(lane_of(), stopped)
    sample = stopped.samples[0]
    assert sample.token_ids == ids[: ids.index(ids[5]) + 1]
    assert (sample.finish_reason, sample.stop_reason) == ("stop", ids[5])
    ignoring = request_of(prompt(9, 1), eos=frozenset(range(VOCABULARY)), ignore_eos=True, max_tokens=12)
    assert run(lane_of(), ignoring)[0] == [ids]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_first_token_follows_the_model(architecture: str) -> None:
    """Chi-square of 4,000 first tokens against the softmax of a plain forward."""
    model = random_model(architecture)
    ids = prompt(12, 3)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1) * 4000
    lane = lane_of(architecture)
    requests = [request_of(ids, n=16, seed=seed, max_tokens=1) for seed in range(250)]
    drawn = [token for samples in run(lane, *requests) for (token,) in samples]
    counts = torch.bincount(torch.tensor(drawn), minlength=VOCABULARY).double()
    assert p_value(counts, expected) > 1e-3


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_logprobs_are_those_of_a_plain_forward(architecture: str) -> None:
    """Of sampled tokens and of the prompt, whatever temperature and filters drew them."""
    model = random_model(architecture)
    ids = prompt(30, 3)
    request = request_of(ids, n=2, seed=1, temperature=1.7, top_k=40, logprobs=3, prompt_logprobs=2, max_tokens=20)
    run(lane_of(architecture), request)
    for sample in request.samples:
        with torch.inference_mode():
            plain = model(torch.tensor([ids + sample.token_ids])).logits[0].log_softmax(-1)
        for place, entry in enumerate(sample.logprobs, start=len(ids) - 1):
            assert entry.logprob == pytest.approx(plain[place, entry.token].item(), abs=1e-4)
            best = plain[place].topk(3)
            assert [token for token, _ in entry.top] == best.indices.tolist()
        found = request.groups[0].prompt_logprobs
        assert found is not None
        assert found[0] is None
        assert len(found) == len(ids)
        for place, entry in enumerate(found[1:]):
            assert entry is not None
            assert entry.token == ids[place + 1]
            assert entry.logprob == pytest.approx(plain[place, entry.token].item(), abs=1e-4)
            assert entry.rank == int((plain[place] > plain[place, entry.token]).sum()) + 1


def test_cancelled_requests_free_their_slots() -> None:
    lane = lane_of(max_rows=4)
    gone = request_of(prompt(9, 1), n=4, max_tokens=200, eos=frozenset())
    waits = request_of(prompt(9, 2), n=4, max_tokens=10, eos=frozenset(), seed=3)
    with torch.inference_mode():
        lane.waiting.extend([*gone.groups, *waits.groups])
        for _ in range(5):
            lane.step()
        assert (lane.running, len(lane.waiting)) == (4, 1)
        gone.close(None)
        lane.sweep()
        assert lane.running == 0
        while lane.waiting or lane.running:
            lane.step()
    (alone,) = run(lane_of(), request_of(prompt(9, 2), n=4, max_tokens=10, eos=frozenset(), seed=3))
    assert [sample.token_ids for sample in waits.samples] == alone


def test_memory_that_is_refused_makes_requests_wait_or_fail() -> None:
    """Room for four slots of 256 tokens only: a fifth sample waits, nine never fit."""
    allowed = 0

    def reserve(wanted: int) -> bool:
        return wanted <= allowed

    lane = make_lane(random_model("llama"), context_length=256, max_rows=16, reserve=reserve)
    assert isinstance(lane, SlotLane)
    allowed = 4 * 256 * 2 * 2 * 2 * 8 * 4  # rows, tokens, layers, keys and values, heads, head size, bytes
    results: list[Any] = []
    too_many = request_of(prompt(5, 1), n=9, results=results)
    assert run(lane, too_many) == [[[]] * 9]
    assert results[0].code == "kv_memory_exceeded"
    found = run(lane, *(request_of(prompt(5, seed), n=3, seed=seed, eos=frozenset()) for seed in range(3)))
    assert [len(ids) for samples in found for ids in samples] == [16] * 9
    assert lane.memory_bytes == allowed


def test_low_precision_runs_in_slots() -> None:
    model = random_model("llama").to(torch.bfloat16)
    lane = make_lane(model, context_length=256, max_rows=8, reserve=lambda _bytes: True)
    assert isinstance(lane, SlotLane)
    (found,) = run(lane, request_of(prompt(20, 1), n=2, eos=EOS, max_tokens=8))
    assert len(found) == 2


def test_moving_position_encodings_take_the_careful_lane() -> None:
    """Frequencies that follow the longest sequence of the batch would let requests change each other."""
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert isinstance(lane_of("llama", rope_parameters=scaled), LockstepLane)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_computes_no_number_says_so_and_harms_no_other(architecture: str, temperature: float) -> None:
    """Token 9 has no usable embedding. Requests without it go on as ever, in the slots it was in, too."""
    model = random_model(architecture, tie_word_embeddings=False)
    lane = make_lane(model, context_length=256, max_rows=4, reserve=lambda _bytes: True)
    expected = run(lane, request_of(prompt(9, 1), n=4, seed=2, temperature=temperature, eos=frozenset({9})))
    with torch.no_grad():
        model.get_input_embeddings().weight[9] = torch.nan
    results: list[Any] = []
    bad = request_of([*prompt(40, 1), 9], n=2, temperature=temperature, results=results)
    good = request_of(prompt(9, 1), n=4, seed=2, temperature=temperature, eos=frozenset({9}))
    (_, found) = run(lane, bad, good)
    assert [result.code for result in results] == ["not_finite"]
    assert [found] == expected
