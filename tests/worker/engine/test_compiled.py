"""Compiled code against the operators it stands for, and threads that share its rows."""

import threading

import pytest
import torch

from tests.worker.engine.running import lane_of, request_of, run
from worker.engine.compiled.crew import Crew, Trial, crew
from worker.engine.compiled.runner import CompiledRunner
from worker.engine.params import SamplingParams
from worker.engine.sampling import BatchParams, by_operators, sample
from worker.engine.slots import SlotLane


def test_rows_shared_by_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def tokens_and_logprobs(threads: int) -> list[object]:
        monkeypatch.setattr(crew, "size", threads)
        lane = lane_of(max_rows=32)
        assert isinstance(lane, SlotLane)
        assert isinstance(lane.runner, CompiledRunner)
        requests = [
            request_of([5, 6, 7 + i], seed=i, n=4, max_tokens=20, logprobs=0, eos=frozenset()) for i in range(8)
        ]
        found = run(lane, *requests)
        return [found, [[s.logprobs for s in request.samples] for request in requests]]

    assert tokens_and_logprobs(3) == tokens_and_logprobs(1)


def test_draws_are_those_of_the_operators() -> None:
    """Both round, so a uniform within rounding of a boundary may fall on either side of it; no others."""
    settings = [
        SamplingParams(seed=0, temperature=0.0),
        SamplingParams(seed=0, temperature=0.7),
        SamplingParams(seed=0, top_k=7),
        SamplingParams(seed=0, top_p=0.9),
        SamplingParams(seed=0, min_p=0.1),
        SamplingParams(seed=0, temperature=1.3, top_k=40, top_p=0.8, min_p=0.02),
    ]
    generator = torch.Generator().manual_seed(0)
    rows = 600
    logits = 3 * torch.randn((rows, 333), generator=generator)
    uniform = torch.rand(rows, generator=generator, dtype=torch.float64)
    params = BatchParams.of([settings[row % len(settings)] for row in range(rows)], 333, torch.device("cpu"))
    differing = (sample(logits, params, uniform) != by_operators(logits, params, uniform)).sum()
    assert int(differing) <= 2


def test_logits_that_are_no_numbers_give_no_token() -> None:
    logits = torch.randn(4, 50)
    logits[0, 7] = torch.nan
    logits[1, 7] = torch.inf
    logits[2] = -torch.inf
    for temperature in (0.0, 1.0):
        params = BatchParams.of([SamplingParams(seed=0, temperature=temperature)] * 4, 50, torch.device("cpu"))
        drawn = sample(logits, params, torch.full((4,), 0.5, dtype=torch.float64)).tolist()
        assert drawn[0] == 50
        assert drawn[3] < 50
        if temperature:
            assert drawn[1:3] == [50, 50]


def test_what_goes_wrong_in_a_helper_is_raised() -> None:
    callers = set()

    def work(first: int, _last: int) -> None:
        callers.add(threading.get_ident())
        if first > 0:
            raise ValueError(f"row {first}")

    mine = Crew(2)
    with pytest.raises(ValueError, match="row 8"):
        mine.split(16, work)
    assert len(callers) == 2
    done: list[tuple[int, int]] = []
    mine.split(17, lambda first, last: done.append((first, last)))
    assert sorted(done) == [(0, 8), (8, 17)]


def test_help_is_taken_while_it_pays() -> None:
    trial = Trial()

    def period(with_help: float, without: float) -> set[bool]:
        taken = []
        for _ in range(Trial._EVERY):
            helped = trial.next()
            trial.note(with_help if helped else without)
            taken.append(helped)
        return set(taken[2 * Trial._EACH :])

    assert period(1.0, 2.0) == {True}
    assert period(2.0, 1.0) == {False}
    assert period(1.0, 2.0) == {True}
