"""The samples that hold slots, as columns: what happens to all of them with every token happens without a loop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.errors import not_a_number
from worker.engine.params import BLOCK
from worker.engine.sampling import BatchParams
from worker.engine.work import Sample

_FIRST_HISTORY = 128


class Rows:
    """Row i is slot i. Rows in use are the first ones; a row that leaves is filled by the last."""

    def __init__(self, most: int, vocabulary: int, device: torch.device) -> None:
        self.samples: list[Sample] = []
        self._vocabulary = vocabulary
        self._device = device
        self._places: dict[Sample, int] = {}
        self._params: BatchParams | None = None
        self._padded = 0
        self.tokens = torch.zeros(most, dtype=torch.int64, device=device)
        """The last token of each row, which the next step computes; 0 in idle rows."""
        self.positions = torch.zeros(most, dtype=torch.int64, device=device)
        """Where those tokens stand; 0 in idle rows."""
        self._every = np.arange(most)
        self._prompt = np.zeros(most, dtype=np.int64)
        self._count = np.zeros(most, dtype=np.int64)
        self._limit = np.zeros(most, dtype=np.int64)
        self._ends = np.zeros((most, vocabulary), dtype=np.bool_)
        self._watched = np.zeros(most, dtype=np.bool_)
        self._history = np.zeros((most, _FIRST_HISTORY), dtype=np.int64)
        self._uniform = np.full((most, BLOCK), 0.5)
        self._drawn = np.zeros(most, dtype=np.int64)
        self._temperature = np.zeros(most)
        self._top_k = np.zeros(most, dtype=np.int64)
        self._top_p = np.ones(most)
        self._min_p = np.zeros(most)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, prompt included."""
        rows = len(self.samples)
        return int((self._prompt[:rows] + self._count[:rows]).max())

    def length(self, row: int) -> int:
        """Tokens of a row whose keys and values are in its slot."""
        return int(self._prompt[row] + self._count[row]) - 1

    def sampled(self, sample: Sample) -> int:
        """Tokens a running sample has so far. May be asked from another thread: then it is a moment old."""
        row = self._places.get(sample)
        return len(sample.token_ids) if row is None else int(self._count[row])

    def add(self, samples: Sequence[Sample]) -> None:
        """Take in samples of one prompt, which have their first token."""
        for sample in samples:
            row, params = len(self.samples), sample.group.params
            self.samples.append(sample)
            self._places[sample] = row
            sample.rows = self
            self.tokens[row] = sample.token_ids[-1]
            self.positions[row] = sample.position
            self._prompt[row] = len(sample.group.prompt_ids)
            self._count[row] = len(sample.token_ids)
            self._limit[row] = params.max_tokens
            self._ends[row] = False
            self._ends[row, [token for token in sample.group.ends if token < self._vocabulary]] = True
            self._watched[row] = sample.watch is not None or params.logprobs is not None
            self._uniform[row] = sample.uniforms.take(BLOCK)
            self._drawn[row] = 0
            self._temperature[row], self._top_k[row] = params.temperature, params.top_k
            self._top_p[row], self._min_p[row] = params.top_p, params.min_p
        self._params = None

    def remove(self, row: int) -> int | None:
        """Let a row go; returns which row moved into its place, if any."""
        sample, last = self.samples[row], len(self.samples) - 1
        self._note(row)
        sample.rows = None
        del self._places[sample]
        if row != last:
            self.samples[row] = self.samples[last]
            self._places[self.samples[row]] = row
            for column in (self.tokens, self.positions):
                column[row] = column[last]
            columns: list[NDArray[Any]] = [self._prompt, self._count, self._limit, self._ends, self._watched]
            columns += [self._history, self._uniform, self._drawn]
            columns += [self._temperature, self._top_k, self._top_p, self._min_p]
            for values in columns:
                values[row] = values[last]
        self.samples.pop()
        self.tokens[last] = self.positions[last] = 0
        self._params = None
        return last if row != last else None

    def params(self, padded: int) -> BatchParams:
        """The settings of all rows; ``padded`` ones are like the first."""
        if self._params is None or self._padded != padded:
            columns: list[NDArray[Any]] = [self._temperature, self._top_k, self._top_p, self._min_p]
            for column in columns:
                column[len(self.samples) : padded] = column[0]
            self._params = BatchParams.of_columns(
                self._temperature[:padded], self._top_k[:padded], self._top_p[:padded], self._min_p[:padded],
                self._vocabulary, self._device,
            )  # fmt: skip
            self._padded = padded
        return self._params

    def uniforms(self, padded: int) -> Tensor:
        """(padded,) float64: the number that decides each row's next token."""
        rows = len(self.samples)
        numbers = np.full(padded, 0.5)
        numbers[:rows] = self._uniform[self._every[:rows], self._drawn[:rows]]
        self._drawn[:rows] += 1
        for row in np.flatnonzero(self._drawn[:rows] == BLOCK).tolist():
            self._uniform[row] = self.samples[row].uniforms.take(BLOCK)
            self._drawn[row] = 0
        return torch.from_numpy(numbers).to(self._device)

    def take(self, drawn: Tensor) -> tuple[list[int], bool]:
        """Give every row its token. Returns the rows that are done, and whether one had no number for a token."""
        rows = len(self.samples)
        self.tokens[:rows] = drawn[:rows]
        self.positions[:rows] += 1
        tokens = drawn[:rows].cpu().numpy()
        broken = tokens >= self._vocabulary
        poisoned = bool(broken.any())
        if poisoned:
            tokens = np.where(broken, 0, tokens)
            for row in np.flatnonzero(broken).tolist():
                self.samples[row].group.request.close(not_a_number())
        every, count = self._every[:rows], self._count[:rows]
        if int(count.max()) >= self._history.shape[1]:
            self._history = np.concatenate([self._history, np.zeros_like(self._history)], axis=1)
        self._history[every, count] = tokens
        count += 1
        done = (self._ends[every, tokens] | (count >= self._limit[:rows])) & ~self._watched[:rows] & ~broken
        for row in np.flatnonzero(done).tolist():
            self._note(row)
            self.samples[row].settle()
            self.samples[row].group.request.touch(self.samples[row])
        for row in np.flatnonzero(self._watched[:rows] & ~broken).tolist():
            sample = self.samples[row]
            done[row] = sample.accept(int(tokens[row]))
            sample.group.request.touch(sample)
        return np.flatnonzero(done).tolist(), poisoned

    def _note(self, row: int) -> None:
        """Hand the sample the tokens that were only kept in the columns."""
        known = self.samples[row].token_ids
        known += self._history[row, len(known) : self._count[row]].tolist()
