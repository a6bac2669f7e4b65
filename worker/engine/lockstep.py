"""The careful lane: for architectures whose cache is more than plain keys and values.

Sliding windows, recurrent states and position encodings that look at the longest sequence keep the cache that
transformers makes for them. The samples of one prompt have the same length at every step, so they run together
without padding; different prompts take turns. Slower than slots, and as right as ``generate``.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from worker.engine.errors import not_a_number
from worker.engine.lane import CHUNK_TOKENS, note_logprobs, prompt_token_logprobs
from worker.engine.sampling import BatchParams, sample
from worker.engine.work import Group, Sample


@dataclass
class _Turn:
    """The running samples of one prompt."""

    group: Group
    cache: DynamicCache
    samples: list[Sample]
    params: BatchParams


class LockstepLane:
    """One prompt's samples at a time, each with a cache of transformers' own."""

    def __init__(self, model: Any, *, max_rows: int) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.waiting: deque[Group] = deque()
        self.max_rows = max_rows
        self._vocabulary: int = model.get_output_embeddings().weight.shape[0]
        self._turns: list[_Turn] = []

    @property
    def running(self) -> int:
        """Samples that hold a cache."""
        return sum(len(turn.samples) for turn in self._turns)

    @property
    def memory_bytes(self) -> int:
        """Bytes of keys and values held now; recurrent states are small and not counted."""
        tensors = [
            tensor
            for turn in self._turns
            for layer in turn.cache.layers
            for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))
            if isinstance(tensor, Tensor)
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def step(self) -> None:
        """Start one waiting prompt if there is room, then one token for every running sample."""
        if self.waiting and self.running + len(self.waiting[0].samples) <= self.max_rows:
            self._prefill(self.waiting.popleft())
        for turn in self._turns:
            self._decode(turn)
        self._turns = [turn for turn in self._turns if turn.samples]

    def sweep(self) -> None:
        """Forget cancelled requests."""
        self.waiting = deque(group for group in self.waiting if not group.request.closed)
        self._turns = [turn for turn in self._turns if not turn.group.request.closed]

    def clear(self) -> list[Group]:
        """Forget everything."""
        groups = [*self.waiting, *(turn.group for turn in self._turns)]
        self.waiting.clear()
        self._turns = []
        return groups

    def _prefill(self, group: Group) -> None:
        cache = DynamicCache(config=self.model.config)
        ids, wanted = group.prompt_ids, group.params.prompt_logprobs
        logits = torch.empty(0)
        if wanted is not None:
            group.prompt_logprobs = [None]
        for start in range(0, len(ids), CHUNK_TOKENS):
            end = min(start + CHUNK_TOKENS, len(ids))
            logits = self._forward([ids[start:end]], start, cache, 1 if wanted is None else 0)
            if wanted is not None and group.prompt_logprobs is not None:
                group.prompt_logprobs += prompt_token_logprobs(logits[0], ids[start + 1 : end + 1], wanted)
        samples = list(group.samples)
        cache.reorder_cache(torch.zeros(len(samples), dtype=torch.int64, device=self.device))
        turn = _Turn(group, cache, samples, self._params(samples))
        self._draw(turn, logits[:, -1].expand(len(samples), -1))
        if turn.samples:
            self._turns.append(turn)

    def _decode(self, turn: _Turn) -> None:
        ids = [[running.token_ids[-1]] for running in turn.samples]
        self._draw(turn, self._forward(ids, turn.samples[0].position, turn.cache, 1)[:, -1])

    def _forward(self, ids: list[list[int]], start: int, cache: DynamicCache, keep: int) -> Tensor:
        positions = torch.arange(start, start + len(ids[0]), device=self.device)[None].expand(len(ids), -1)
        output = self.model(
            input_ids=torch.tensor(ids, dtype=torch.int64, device=self.device),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits
        return logits

    def _draw(self, turn: _Turn, logits: Tensor) -> None:
        samples = turn.samples
        numbers = torch.tensor([next(s.uniforms) for s in samples], dtype=torch.float64, device=self.device)
        drawn = sample(logits, turn.params, numbers)
        tokens = drawn.tolist()
        if max(tokens) >= self._vocabulary:
            turn.group.request.close(not_a_number())
            turn.samples = []
            return
        note_logprobs(samples, logits, drawn)
        going = [row for row, (s, token) in enumerate(zip(samples, tokens, strict=True)) if not s.accept(token)]
        for running in samples:
            turn.group.request.touch(running)
        if len(going) < len(samples):
            turn.samples = [samples[row] for row in going]
            if going:
                turn.cache.reorder_cache(torch.tensor(going, dtype=torch.int64, device=self.device))
                turn.params = self._params(turn.samples)

    def _params(self, samples: list[Sample]) -> BatchParams:
        return BatchParams.of([running.group.params for running in samples], self._vocabulary, self.device)
