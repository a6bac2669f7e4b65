"""The fast lane: every running sample has a slot, and one forward serves all of them.

The same request gives the same tokens whatever runs beside it, bit for bit in float32 on a CPU, because the shapes
that could change a result do not depend on the company: prompts are only batched with prompts of the same padded
length, and the rows of every matrix product are a multiple of four (with fewer rows BLAS takes other paths).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from worker.engine.cache import SlotCache, bytes_per_token
from worker.engine.errors import EngineError, not_a_number
from worker.engine.lane import CHUNK_TOKENS, LogitsTap, prompt_token_logprobs
from worker.engine.params import SamplingParams
from worker.engine.sampling import BatchParams, sample, token_logprobs
from worker.engine.work import Group, Sample, TokenLogprob

_ROW_TILE = 4
_WINDOW_TILE = 16
_FIRST_ROWS = 8
_FIRST_CAPACITY = 256
_PREFILL_TOKENS = 1024  # padded prompt tokens computed between two decode steps
_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, CHUNK_TOKENS)

Reserve = Callable[[int], bool]
"""Asks for a total of so many KV bytes for this lane; False when the memory budget does not allow it now."""


@dataclass
class _LongPrompt:
    """A prompt that is computed alone, in chunks."""

    group: Group
    cache: DynamicCache
    done: int = 0


class SlotLane:
    """Continuous batching in fixed slots for models whose cache is plain keys and values."""

    def __init__(
        self, model: Any, prototype: DynamicCache, *, context_length: int, max_rows: int, reserve: Reserve
    ) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.waiting: deque[Group] = deque()
        self.context_length = context_length
        self.max_rows = _up(max_rows, _ROW_TILE)
        self._tap = LogitsTap(model)
        self._prototype = prototype
        self._token_bytes = bytes_per_token(prototype)
        self._reserve = reserve
        self._vocabulary: int = model.get_output_embeddings().weight.shape[0]
        self._cache: SlotCache | None = None
        self._mask = torch.empty(0, 0)
        """(rows, capacity): 0 where a slot is filled, else -inf; added to the attention scores."""
        self._rows: list[Sample] = []
        self._params: BatchParams | None = None
        self._long: _LongPrompt | None = None
        self._poisoned = False

    @property
    def running(self) -> int:
        """Samples that hold a slot, or wait for the rest of their prompt."""
        return len(self._rows) + (len(self._long.group.samples) if self._long else 0)

    @property
    def memory_bytes(self) -> int:
        """Bytes of KV memory held now."""
        return self._cache.memory_bytes if self._cache is not None else 0

    def step(self) -> None:
        """Compute some waiting prompts, then one token for every row."""
        self._prefill()
        if self._rows:
            self._decode()
        if self._poisoned:
            self._poisoned = False
            self.sweep()
            if self._cache is not None:
                self._cache.cleanse()

    def sweep(self) -> None:
        """Free the slots of cancelled requests."""
        self.waiting = deque(group for group in self.waiting if not group.request.closed)
        if self._long is not None and self._long.group.request.closed:
            self._long = None
        self._remove([row for row, running in enumerate(self._rows) if running.group.request.closed])

    def clear(self) -> list[Group]:
        """Forget everything that waits or runs, KV memory included."""
        groups = [*self.waiting, *([self._long.group] if self._long else []), *(row.group for row in self._rows)]
        self.waiting.clear()
        self._rows, self._long, self._cache, self._params = [], None, None, None
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
                    budget -= len(batch) * _padded(batch[0])
                    self._prefill_batch(batch)
                    continue
                self._long = _LongPrompt(batch[0], DynamicCache())
            budget -= CHUNK_TOKENS
            self._prefill_chunk(self._long)

    def _admit(self, budget: int) -> list[Group]:
        """The first waiting group that fits, with others of its padded length; their slots are there."""
        batch: list[Group] = []
        while self.waiting and not batch:
            group = self.waiting[0]
            if self._make_room(len(group.samples), group.needed_tokens):
                batch.append(self.waiting.popleft())
            elif self._rows:
                return []
            else:
                self.waiting.popleft()
                group.request.close(_too_large(group, self.max_rows))
        if not batch or _alone(batch[0]):
            return batch
        length, passed = _padded(batch[0]), []
        samples = len(batch[0].samples)
        while self.waiting and (len(batch) + 1) * length <= budget:
            group = self.waiting.popleft()
            fits = not _alone(group) and _padded(group) == length
            if fits and self._make_room(samples + len(group.samples), group.needed_tokens):
                batch.append(group)
                samples += len(group.samples)
            else:
                passed.append(group)
        self.waiting.extendleft(reversed(passed))
        return batch

    def _prefill_batch(self, batch: Sequence[Group]) -> None:
        length = _padded(batch[0])
        ids = [group.prompt_ids + group.prompt_ids[-1:] * (length - len(group.prompt_ids)) for group in batch]
        cache = DynamicCache()
        last = [row * length + len(group.prompt_ids) - 1 for row, group in enumerate(batch)]
        logits = self._forward_prompt(ids, 0, cache, last)
        self._start(batch, cache, logits)

    def _prefill_chunk(self, long: _LongPrompt) -> None:
        ids = long.group.prompt_ids
        start, end = long.done, min(long.done + CHUNK_TOKENS, len(ids))
        wanted = long.group.params.prompt_logprobs
        at = None if wanted is not None else [end - start - 1]
        logits = self._forward_prompt([ids[start:end]], start, long.cache, at)
        if wanted is not None:
            found = prompt_token_logprobs(logits[0], ids[start + 1 : end + 1], wanted)
            long.group.prompt_logprobs = [*(long.group.prompt_logprobs or [None]), *found]
            logits = logits[:, -1:].expand(_ROW_TILE, -1, -1)
        long.done = end
        if end == len(ids):
            self._long = None
            self._start([long.group], long.cache, logits)

    def _forward_prompt(self, ids: list[list[int]], start: int, cache: DynamicCache, at: list[int] | None) -> Tensor:
        """Logits (len(at) rounded up, 1, vocabulary), or (batch, tokens, vocabulary) where ``at`` is None."""
        if at is not None:
            at = at + at[-1:] * (_up(len(at), _ROW_TILE) - len(at))
        self._tap.at(at, self.device)
        try:
            positions = torch.arange(start, start + len(ids[0]), device=self.device)[None].expand(len(ids), -1)
            output = self.model(
                input_ids=torch.tensor(ids, dtype=torch.int64, device=self.device),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
        finally:
            self._tap.at(None, self.device)
        logits: Tensor = output.logits
        return logits

    def _start(self, batch: Sequence[Group], prompts: DynamicCache, logits: Tensor) -> None:
        """Draw the first token of every sample of ``batch``; those that go on get a slot with the prompt's KV."""
        samples = [sample for group in batch for sample in group.samples]
        source = [index for index, group in enumerate(batch) for _ in group.samples]
        source += source[-1:] * (_up(len(source), _ROW_TILE) - len(source))
        params = self._batch_params(samples)
        done = self._draw(samples, params, logits[torch.tensor(source, device=self.device), -1])
        for index, group in enumerate(batch):
            going = [sample for sample in group.samples if sample not in done]
            if going and not group.request.closed:
                self._place(going, prompts, index)

    def _place(self, samples: list[Sample], prompts: DynamicCache, index: int) -> None:
        cache = self._memory()
        row, length = len(self._rows), len(samples[0].group.prompt_ids)
        cache.fill(row, len(samples), prompts, index, length)
        self._mask[row : row + len(samples)] = -torch.inf
        self._mask[row : row + len(samples), :length] = 0
        self._rows.extend(samples)
        self._params = None

    # Tokens

    def _decode(self) -> None:
        cache, rows = self._memory(), len(self._rows)
        padding = _up(rows, _ROW_TILE) - rows
        if self._params is None:
            self._params = self._batch_params(self._rows)
        positions = [sample.position for sample in self._rows]
        window = _up(max(positions) + 1, _WINDOW_TILE)
        ids = torch.tensor([sample.token_ids[-1] for sample in self._rows] + [0] * padding, device=self.device)
        at = torch.tensor(positions + [0] * padding, device=self.device)
        every = torch.arange(rows + padding, device=self.device)
        self._mask[every, at] = 0
        cache.shape.step(every, at, window)
        output = self.model(
            input_ids=ids[:, None],
            position_ids=at[:, None],
            attention_mask=self._mask[: rows + padding, None, None, :window],
            past_key_values=cache,
            use_cache=True,
        )
        done = self._draw(self._rows, self._params, output.logits[:, -1])
        if done:
            self._remove([row for row, sample in enumerate(self._rows) if sample in done])

    def _draw(self, samples: Sequence[Sample], params: BatchParams, logits: Tensor) -> set[Sample]:
        """Give every sample its next token; ``logits`` (rows rounded up, vocabulary). Returns those that are done."""
        numbers = [next(sample.uniforms) for sample in samples]
        numbers += [0.5] * (len(logits) - len(samples))
        drawn = sample(logits, params, torch.tensor(numbers, dtype=torch.float64, device=self.device))
        note_logprobs(samples, logits, drawn)
        done = set()
        for running, token in zip(samples, drawn.tolist(), strict=False):
            if token >= self._vocabulary:
                running.group.request.close(not_a_number())
                self._poisoned = True
                continue
            if running.accept(token):
                done.add(running)
            running.group.request.touch(running)
        return done

    def _batch_params(self, samples: Sequence[Sample]) -> BatchParams:
        rows: list[SamplingParams] = [sample.group.params for sample in samples]
        rows += rows[-1:] * (_up(len(rows), _ROW_TILE) - len(rows))
        return BatchParams.of(rows, self._vocabulary, self.device)

    # Slots

    def _remove(self, rows: list[int]) -> None:
        """Free slots; the last running one moves into each gap, so that those in use stay the first ones."""
        if not rows:
            return
        cache = self._memory()
        for row in reversed(rows):
            last = len(self._rows) - 1
            if row != last:
                cache.move(last, row, self._rows[last].position + 1)
                self._mask[row] = self._mask[last]
                self._rows[row] = self._rows[last]
            self._rows.pop()
            self._mask[last] = -torch.inf
            self._mask[last, 0] = 0  # an idle row looks at one position, for the softmax of nothing is NaN
        self._params = None

    def _memory(self) -> SlotCache:
        if self._cache is None:
            raise RuntimeError("no KV memory was made for the running samples")
        return self._cache

    def _make_room(self, samples: int, tokens: int) -> bool:
        """Whether there are slots for that many more samples of that many tokens, growing the memory if need be."""
        held = self._cache
        rows, capacity = (held.rows, held.capacity) if held is not None else (0, 0)
        wanted = len(self._rows) + samples
        if wanted > self.max_rows or tokens > self.context_length:
            return False
        if wanted <= rows and tokens <= capacity:
            return True
        capacity = max(capacity, min(_power(tokens, _FIRST_CAPACITY), _up(self.context_length, _WINDOW_TILE)))
        for count in (max(rows, min(_power(wanted, _FIRST_ROWS), self.max_rows)), max(rows, _up(wanted, _ROW_TILE))):
            if self._reserve(count * capacity * self._token_bytes):
                self._allocate(count, capacity)
                return True
        return False

    def _allocate(self, rows: int, capacity: int) -> None:
        if self._cache is None:
            self._cache = SlotCache(self._prototype, rows, capacity)
        else:
            self._cache.grow(rows, capacity)
        mask = torch.full((rows, capacity), -torch.inf, dtype=self.model.dtype, device=self.device)
        mask[:, 0] = 0
        mask[: self._mask.shape[0], : self._mask.shape[1]] = self._mask
        self._mask = mask


def note_logprobs(samples: Sequence[Sample], logits: Tensor, drawn: Tensor) -> None:
    """Record the log-probs of the ``drawn`` tokens for those samples that asked for them."""
    tops = [running.group.params.logprobs for running in samples]
    if all(top is None for top in tops):
        return
    within = drawn.clamp(max=logits.shape[-1] - 1)  # past the end where the logits are no numbers
    own, best, best_ids = token_logprobs(logits, within, max(top or 0 for top in tops))
    for running, top, token, value, ids, values in zip(
        samples, tops, drawn.tolist(), own.tolist(), best_ids.tolist(), best.tolist(), strict=False
    ):
        if top is not None:
            running.logprobs.append(TokenLogprob(token, value, None, tuple(zip(ids[:top], values[:top], strict=True))))


def _alone(group: Group) -> bool:
    return len(group.prompt_ids) > CHUNK_TOKENS or group.params.prompt_logprobs is not None


def _padded(group: Group) -> int:
    return next(length for length in _LENGTHS if length >= len(group.prompt_ids))


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
