"""The fast lane: every running sample has a slot, and one forward serves all of them.

The same request gives the same tokens whatever runs beside it, bit for bit in float32 on a CPU, because the shapes
that could change a result do not depend on the company: prompts share a forward only where its runner says that they
cannot change each other, and the rows of every matrix product are a multiple of four.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.engine.errors import EngineError, not_a_number
from worker.engine.lane import CHUNK_TOKENS, note_logprobs, prompt_token_logprobs
from worker.engine.params import SamplingParams
from worker.engine.rows import Rows
from worker.engine.runner import ROW_TILE, Runner
from worker.engine.sampling import BatchParams, sample
from worker.engine.work import Group, Sample

_WINDOW_TILE = 16
_CAPACITY_TILE = 64
_FIRST_ROWS = 8
_FIRST_CAPACITY = 256
_PREFILL_TOKENS = 1024  # prompt tokens computed between two decode steps

Reserve = Callable[[int], bool]
"""Asks for a total of so many KV bytes for this lane; False when the memory budget does not allow it now."""


@dataclass
class _LongPrompt:
    """A prompt that is computed alone, in chunks."""

    group: Group
    memory: Any
    done: int = 0


class SlotLane:
    """Continuous batching in fixed slots for models whose cache is plain keys and values."""

    def __init__(self, runner: Runner, *, context_length: int, max_rows: int, reserve: Reserve) -> None:
        self.runner = runner
        self.waiting: deque[Group] = deque()
        self.context_length = context_length
        self.max_rows = _up(max_rows, ROW_TILE)
        self._device = runner.device
        self._reserve = reserve
        self._mask = torch.empty(0, 0)
        """(rows, capacity): 0 where a slot is filled, else -inf; added to the attention scores."""
        self._rows = Rows(self.max_rows, runner.vocabulary, runner.device)
        self._every = torch.arange(self.max_rows, device=runner.device)
        self._long: _LongPrompt | None = None
        self._poisoned = False

    @property
    def running(self) -> int:
        """Samples that hold a slot, or wait for the rest of their prompt."""
        return len(self._rows) + (len(self._long.group.samples) if self._long else 0)

    @property
    def memory_bytes(self) -> int:
        """Bytes of KV memory held now."""
        return self.runner.memory_bytes

    def step(self) -> None:
        """Compute some waiting prompts, then one token for every row."""
        self._prefill()
        if len(self._rows):
            self._decode()
        if self._poisoned:
            self._poisoned = False
            self.sweep()
            self.runner.cleanse()

    def sweep(self) -> None:
        """Free the slots of cancelled requests."""
        self.waiting = deque(group for group in self.waiting if not group.request.closed)
        if self._long is not None and self._long.group.request.closed:
            self._long = None
        self._remove([row for row, running in enumerate(self._rows.samples) if running.group.request.closed])

    def clear(self) -> list[Group]:
        """Forget everything that waits or runs, KV memory included."""
        long = [self._long.group] if self._long else []
        groups = [*self.waiting, *long, *(running.group for running in self._rows.samples)]
        self.waiting.clear()
        for row in reversed(range(len(self._rows))):
            self._rows.remove(row)
        self._long = None
        self.runner.drop()
        self._mask = torch.empty(0, 0)
        return groups

    # Prompts

    def _prefill(self) -> None:
        budget = _PREFILL_TOKENS
        while budget > 0:
            if self._long is None:
                batch = self._admit(budget)
                if not batch:
                    return
                if not _alone(batch[0]):
                    budget -= sum(self._width(group) for group in batch)
                    memory, logits = self.runner.prefill([group.prompt_ids for group in batch])
                    self._start(batch, memory, logits)
                    continue
                self._long = _LongPrompt(batch[0], self.runner.begin(len(batch[0].prompt_ids)))
            budget -= CHUNK_TOKENS
            self._prefill_chunk(self._long)

    def _admit(self, budget: int) -> list[Group]:
        """The first waiting group that fits, with others that may share its forward; their slots are there."""
        batch: list[Group] = []
        while self.waiting and not batch:
            group = self.waiting[0]
            if self._make_room(len(group.samples), group.needed_tokens):
                batch.append(self.waiting.popleft())
            elif len(self._rows):
                return []
            else:
                self.waiting.popleft()
                group.request.close(_too_large(group, self.max_rows))
        if not batch or _alone(batch[0]):
            return batch
        length, used, passed = len(batch[0].prompt_ids), self._width(batch[0]), []
        samples = len(batch[0].samples)
        while self.waiting:
            group = self.waiting.popleft()
            fits = not _alone(group) and self.runner.together(length, len(group.prompt_ids))
            fits = fits and used + self._width(group) <= budget
            if fits and self._make_room(samples + len(group.samples), group.needed_tokens):
                batch.append(group)
                samples += len(group.samples)
                used += self._width(group)
            else:
                passed.append(group)
        self.waiting.extend(passed)
        return batch

    def _width(self, group: Group) -> int:
        return self.runner.width(len(group.prompt_ids))

    def _prefill_chunk(self, long: _LongPrompt) -> None:
        ids, wanted = long.group.prompt_ids, long.group.params.prompt_logprobs
        start, end = long.done, min(long.done + CHUNK_TOKENS, len(ids))
        logits = self.runner.extend(long.memory, ids[start:end], start, every=wanted is not None)
        if wanted is not None:
            found = prompt_token_logprobs(logits[: end - start], ids[start + 1 : end + 1], wanted)
            long.group.prompt_logprobs = [*(long.group.prompt_logprobs or [None]), *found]
            logits = logits[end - start - 1][None].expand(ROW_TILE, -1)
        long.done = end
        if end == len(ids):
            self._long = None
            self._start([long.group], long.memory, logits)

    def _start(self, batch: Sequence[Group], memory: Any, logits: Tensor) -> None:
        """Draw the first token of every sample of ``batch``; those that go on get a slot with the prompt's KV."""
        samples = [running for group in batch for running in group.samples]
        source = [index for index, group in enumerate(batch) for _ in group.samples]
        padding = _up(len(source), ROW_TILE) - len(source)
        settings: list[SamplingParams] = [running.group.params for running in samples]
        params = BatchParams.of(settings + settings[-1:] * padding, self.runner.vocabulary, self._device)
        chosen = logits[torch.tensor(source + source[-1:] * padding, device=self._device)]
        numbers = [next(running.uniforms) for running in samples] + [0.5] * padding
        drawn = sample(chosen, params, torch.tensor(numbers, dtype=torch.float64, device=self._device))
        note_logprobs(samples, chosen, drawn)
        going: dict[int, list[Sample]] = {}
        for running, index, token in zip(samples, source, drawn.tolist(), strict=False):
            if token >= self.runner.vocabulary:
                running.group.request.close(not_a_number())
                self._poisoned = True
                continue
            if not running.accept(token):
                going.setdefault(index, []).append(running)
            running.group.request.touch(running)
        for index, group in enumerate(batch):
            if index in going and not group.request.closed:
                self._place(going[index], memory, index)

    def _place(self, samples: list[Sample], memory: Any, index: int) -> None:
        row, length = len(self._rows), len(samples[0].group.prompt_ids)
        self.runner.place(memory, index, length, row, len(samples))
        if self.runner.masked:
            self._mask[row : row + len(samples)] = -torch.inf
            self._mask[row : row + len(samples), :length] = 0
        self._rows.add(samples)

    # Tokens

    def _decode(self) -> None:
        rows = self._rows
        padded = _up(len(rows), self.runner.row_tile)
        positions, mask = rows.positions[:padded], None
        if self.runner.masked:
            mask = self._mask[:padded, : _up(rows.longest, _WINDOW_TILE)]
            self._mask[self._every[:padded], positions] = 0
        logits = self.runner.decode(rows.tokens[:padded], positions, mask)
        drawn = sample(logits, rows.params(padded), rows.uniforms(padded))
        note_logprobs(rows.samples, logits, drawn)
        done, poisoned = rows.take(drawn)
        self._poisoned = self._poisoned or poisoned
        self._remove(done)

    # Slots

    def _remove(self, rows: list[int]) -> None:
        """Free slots; the last running one moves into each gap, so that those in use stay the first ones."""
        for row in reversed(rows):
            last = len(self._rows) - 1
            moved = self._rows.remove(row)
            if moved is not None:
                self.runner.move(moved, row, self._rows.length(row))
                if self.runner.masked:
                    self._mask[row] = self._mask[last]
            if self.runner.masked:
                self._mask[last] = -torch.inf
                self._mask[last, 0] = 0  # an idle row looks at one position, for the softmax of nothing is NaN

    def _make_room(self, samples: int, tokens: int) -> bool:
        """Whether there are slots for that many more samples of that many tokens, growing the memory if need be."""
        rows, capacity = self.runner.rows, self.runner.capacity
        wanted = len(self._rows) + samples
        if wanted > self.max_rows or tokens > self.context_length:
            return False
        if wanted <= rows and tokens <= capacity:
            return True
        capacity = max(capacity, min(_power(tokens, _FIRST_CAPACITY), _up(self.context_length, _CAPACITY_TILE)))
        for count in (max(rows, min(_power(wanted, _FIRST_ROWS), self.max_rows)), max(rows, _up(wanted, ROW_TILE))):
            if self._reserve(count * capacity * self.runner.token_bytes):
                self._allocate(count, capacity)
                return True
        return False

    def _allocate(self, rows: int, capacity: int) -> None:
        self.runner.grow(rows, capacity)
        if not self.runner.masked:
            return
        mask = torch.full((rows, capacity), -torch.inf, dtype=self.runner.dtype, device=self._device)
        mask[:, 0] = 0
        mask[: self._mask.shape[0], : self._mask.shape[1]] = self._mask
        self._mask = mask


def _alone(group: Group) -> bool:
    return len(group.prompt_ids) > CHUNK_TOKENS or group.params.prompt_logprobs is not None


def _too_large(group: Group, max_rows: int) -> EngineError:
    return EngineError(
        f"n = {len(group.samples)} completions of up to {group.needed_tokens} tokens do not fit the engine's memory "
        f"(at most {max_rows} run at once). Ask for fewer or shorter ones, or raise --memory-budget-mb.",
        code="kv_memory_exceeded",
        param="max_tokens",
    )


def _up(number: int, tile: int) -> int:
    return -(-number // tile) * tile


def _power(number: int, first: int) -> int:
    while first < number:
        first *= 2
    return first
