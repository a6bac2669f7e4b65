"""How a lane computes: prompts, tokens, and the memory in slots, behind one interface with two implementations."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from worker.engine.cache import SlotCache, bytes_per_token
from worker.engine.lane import CHUNK_TOKENS, LogitsTap
from worker.engine.linear import Packs
from worker.engine.llama import LlamaForward

ROW_TILE = 4
"""Rows of every product are a multiple of this, for with fewer BLAS takes other paths."""

_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, CHUNK_TOKENS)
_MANY_THREADS_FROM = (
    30e6  # floating point operations of one product, below which a second thread costs more than it does
)


class Runner(Protocol):
    """A model and ``rows`` slots of ``capacity`` tokens; a prompt's memory is separate until it is placed in slots."""

    device: torch.device
    dtype: torch.dtype
    vocabulary: int
    token_bytes: int
    """Bytes of keys and values of one token."""
    row_tile: int
    """Rows of a decoding step are a multiple of this."""
    masked: bool
    """Whether decoding wants a mask."""

    @property
    def rows(self) -> int:
        """Slots there are."""

    @property
    def capacity(self) -> int:
        """Tokens a slot takes."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of slots held now."""

    def width(self, length: int) -> int:
        """Tokens computed for a prompt of ``length``."""

    def together(self, first: int, second: int) -> bool:
        """Whether prompts of these lengths may share a forward without changing each other."""

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Any, Tensor]:
        """Memory of several whole prompts, and (prompts rounded up, vocabulary) logits of their last tokens."""

    def begin(self, length: int) -> Any:
        """Memory for one prompt of ``length`` tokens, to be computed in pieces."""

    def extend(self, prompt: Any, ids: list[int], start: int, *, every: bool) -> Tensor:
        """Compute the next piece; logits of its last token, (rows, vocabulary), or of every one of them."""

    def place(self, prompts: Any, index: int, length: int, row: int, count: int) -> None:
        """Copy a computed prompt into slots ``row`` … ``row + count - 1``."""

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of one slot over another."""

    def decode(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """(rows, vocabulary) logits after one more token per slot.

        ``mask`` (rows, window) is added to the scores; None if and only if the runner is not ``masked``.
        """

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for more or longer slots; what is in them stays."""

    def drop(self) -> None:
        """Give all slots back."""

    def cleanse(self) -> None:
        """Put numbers where none are: a masked position is multiplied by 0, which NaN and infinity survive."""


class FusedRunner:
    """``LlamaForward`` on slots of its own: any prompts share a forward, for its rows never change each other."""

    row_tile = ROW_TILE
    masked = True

    def __init__(self, model: Any, *, context_length: int, packs: Packs) -> None:
        """Raises Unfit where the model is no decoder of Llama's shape."""
        self._forward = LlamaForward(model, context_length=context_length, packs=packs)
        self.device, self.dtype = self._forward.device, self._forward.dtype
        self.vocabulary = self._forward.vocabulary
        self._layers = len(self._forward.layers)
        self.token_bytes = self._layers * self._forward.kv_size * self.dtype.itemsize
        self._memory = self._zeros(0, 0)
        self._threads = torch.get_num_threads()
        self._mean_weights = self._count_weights()

    @property
    def rows(self) -> int:
        """Slots there are."""
        return self._memory.shape[1]

    @property
    def capacity(self) -> int:
        """Tokens a slot takes."""
        return self._memory.shape[2]

    @property
    def adapter_bytes(self) -> int:
        """Bytes of an adapter's laid out matrices."""
        return self._forward.adapter_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of slots held now."""
        return self._memory.numel() * self._memory.element_size()

    def width(self, length: int) -> int:
        """Nothing is padded."""
        return length

    def together(self, first: int, second: int) -> bool:  # noqa: ARG002 - the interface's
        """Any two."""
        return True

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Any, Tensor]:
        """See ``Runner``."""
        memories = [self.begin(len(ids)) for ids in prompts]
        pieces = [(ids, 0, memory) for ids, memory in zip(prompts, memories, strict=True)]
        self._use_threads(sum(map(len, prompts)))
        return memories, self._forward.prefill(pieces, rows=ROW_TILE, every=False)

    def begin(self, length: int) -> Any:
        """See ``Runner``."""
        return torch.empty((self._layers, length, self._forward.kv_size), dtype=self.dtype, device=self.device)

    def extend(self, prompt: Any, ids: list[int], start: int, *, every: bool) -> Tensor:
        """See ``Runner``."""
        self._use_threads(len(ids))
        return self._forward.prefill([(ids, start, prompt)], rows=ROW_TILE, every=every)

    def place(self, prompts: Any, index: int, length: int, row: int, count: int) -> None:
        """See ``Runner``."""
        memory = prompts[index] if isinstance(prompts, list) else prompts
        self._memory[:, row : row + count, :length] = memory[:, None, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """See ``Runner``."""
        self._memory[:, target, :length] = self._memory[:, source, :length]

    def decode(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """See ``Runner``."""
        if mask is None:
            raise ValueError("this runner needs a mask")
        self._use_threads(len(ids))
        return self._forward.decode(ids, positions, self._memory, mask)

    def grow(self, rows: int, capacity: int) -> None:
        """See ``Runner``."""
        memory = self._zeros(rows, capacity)
        memory[:, : self.rows, : self.capacity] = self._memory
        self._memory = memory

    def drop(self) -> None:
        """See ``Runner``."""
        self._memory = self._zeros(0, 0)

    def cleanse(self) -> None:
        """See ``Runner``."""
        self._memory.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def _zeros(self, rows: int, capacity: int) -> Tensor:
        """Zeroed: a masked position still multiplies its value by 0, which stray NaNs would survive."""
        shape = (self._layers, rows, capacity, self._forward.kv_size)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _count_weights(self) -> float:
        products = [p.weight for y in self._forward.layers for p in (y.qkv, y.out, y.gate, y.up, y.down)]
        return sum(weight.matrix.numel() for weight in products) / len(products)

    def _use_threads(self, rows: int) -> None:
        """Small products run on one thread: waking another takes longer. The numbers are the same either way."""
        many = 2 * rows * self._mean_weights >= _MANY_THREADS_FROM
        wanted = self._threads if many else 1
        if self.device.type == "cpu" and torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)


class TransformersRunner:
    """Transformers' own forward of any architecture whose cache is plain keys and values."""

    row_tile = ROW_TILE
    masked = True

    def __init__(self, model: Any, prototype: DynamicCache) -> None:
        self._model = model
        self._prototype = prototype
        self._tap = LogitsTap(model)
        self._cache: SlotCache | None = None
        self._threads = torch.get_num_threads()
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        self.token_bytes = bytes_per_token(prototype)

    @property
    def rows(self) -> int:
        """Slots there are."""
        return 0 if self._cache is None else self._cache.rows

    @property
    def capacity(self) -> int:
        """Tokens a slot takes."""
        return 0 if self._cache is None else self._cache.capacity

    @property
    def memory_bytes(self) -> int:
        """Bytes of slots held now."""
        return 0 if self._cache is None else self._cache.memory_bytes

    def width(self, length: int) -> int:
        """Prompts are padded to one of a few lengths."""
        return next((width for width in _LENGTHS if width >= length), CHUNK_TOKENS)

    def together(self, first: int, second: int) -> bool:
        """Those of the same padded length: any other shape could change a result's last bits."""
        return self.width(first) == self.width(second)

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Any, Tensor]:
        """See ``Runner``."""
        width = self.width(len(prompts[0]))
        padded = [ids + ids[-1:] * (width - len(ids)) for ids in prompts]
        cache = DynamicCache()
        last = [row * width + len(ids) - 1 for row, ids in enumerate(prompts)]
        return cache, self._forward(padded, 0, cache, last)[:, -1]

    def begin(self, length: int) -> Any:  # noqa: ARG002 - the interface's
        """See ``Runner``."""
        return DynamicCache()

    def extend(self, prompt: Any, ids: list[int], start: int, *, every: bool) -> Tensor:
        """See ``Runner``."""
        logits = self._forward([ids], start, prompt, None if every else [len(ids) - 1])
        return logits[0] if every else logits[:, -1]

    def place(self, prompts: Any, index: int, length: int, row: int, count: int) -> None:
        """See ``Runner``."""
        self._slots().fill(row, count, prompts, index, length)

    def move(self, source: int, target: int, length: int) -> None:
        """See ``Runner``."""
        self._slots().move(source, target, length)

    def decode(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """See ``Runner``."""
        if mask is None:
            raise ValueError("this runner needs a mask")
        cache = self._slots()
        self._use_threads()
        cache.shape.step(torch.arange(len(ids), device=self.device), positions, mask.shape[1])
        output = self._model(
            input_ids=ids[:, None],
            position_ids=positions[:, None],
            attention_mask=mask[:, None, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def grow(self, rows: int, capacity: int) -> None:
        """See ``Runner``."""
        if self._cache is None:
            self._cache = SlotCache(self._prototype, rows, capacity)
        else:
            self._cache.grow(rows, capacity)

    def drop(self) -> None:
        """See ``Runner``."""
        self._cache = None

    def cleanse(self) -> None:
        """See ``Runner``."""
        if self._cache is not None:
            self._cache.cleanse()

    def _slots(self) -> SlotCache:
        if self._cache is None:
            raise RuntimeError("no KV memory was made for the running samples")
        return self._cache

    def _forward(self, ids: list[list[int]], start: int, cache: DynamicCache, at: list[int] | None) -> Tensor:
        """Logits (len(at) rounded up, 1, vocabulary), or (batch, tokens, vocabulary) where ``at`` is None."""
        self._use_threads()
        if at is not None:
            at = at + at[-1:] * (-len(at) % ROW_TILE)
        self._tap.at(at, self.device)
        try:
            positions = torch.arange(start, start + len(ids[0]), device=self.device)[None].expand(len(ids), -1)
            output = self._model(
                input_ids=torch.tensor(ids, dtype=torch.int64, device=self.device),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
        finally:
            self._tap.at(None, self.device)
        logits: Tensor = output.logits
        return logits

    def _use_threads(self) -> None:
        """Always the same number: here it can change a result's last bits."""
        if self.device.type == "cpu" and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
