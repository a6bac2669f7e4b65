"""KV memory in fixed slots, behind transformers' cache interface.

A slot is one row of every layer's tensors and holds one sequence. Rows 0 … active-1 are in use, so a forward sees
plain views of the memory: nothing is concatenated, gathered or copied per token.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer


class SlotShape:
    """What all layers of a forward share: which rows write where, and how far back they look."""

    def __init__(self) -> None:
        self.rows = torch.empty(0, dtype=torch.int64)
        """(rows,) 0 … rows - 1."""
        self.positions = torch.empty(0, dtype=torch.int64)
        """(rows,) where in its slot each row's new keys and values go."""
        self.window = 0
        """Positions of each slot that this step attends to; the mask says which of them are filled."""
        self._targets: dict[tuple[int, int], Tensor] = {}

    def step(self, rows: Tensor, positions: Tensor, window: int) -> None:
        """Set what the next forward writes and sees."""
        self.rows, self.positions, self.window = rows, positions, window
        self._targets.clear()

    def targets(self, heads: int, capacity: int) -> Tensor:
        """(rows * heads,) flat places (row * heads + head) * capacity + position; the same for most layers."""
        found = self._targets.get((heads, capacity))
        if found is None:
            every_head = self.rows[:, None] * heads + torch.arange(heads, device=self.rows.device)
            found = (every_head * capacity + self.positions[:, None]).flatten()
            self._targets[heads, capacity] = found
        return found


class SlotLayer(CacheLayerMixin):  # type: ignore[misc] # transformers is untyped here
    """Keys and values of one layer: (rows, heads, capacity, head size), so that each head reads one stretch."""

    is_compileable = False
    is_sliding = False

    def __init__(self, shape: SlotShape, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the memory is there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token per row, (rows, heads, 1, size); returns views (rows, heads, window, size)."""
        rows, heads = key_states.shape[:2]
        capacity, window = self.keys.shape[2], self.shape.window
        for memory, new in ((self.keys, key_states), (self.values, value_states)):
            memory.view(-1, memory.shape[3]).index_copy_(0, self.shape.targets(heads, capacity), new.flatten(0, 2))
        return self.keys[:rows, :, :window], self.values[:rows, :, :window]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - transformers' signature
        """Length and offset of what ``update`` returns."""
        return self.shape.window, 0

    def get_seq_length(self) -> int:
        """Positions before this step's token, of the longest row."""
        return max(self.shape.window - 1, 0)

    def get_max_length(self) -> int:
        """Capacity of a slot, tokens."""
        return int(self.keys.shape[2])


class SlotCache(Cache):  # type: ignore[misc] # transformers is untyped here
    """KV memory of a model: ``rows`` slots of ``capacity`` tokens each."""

    def __init__(self, prototype: DynamicCache, rows: int, capacity: int) -> None:
        """Allocate with the layers, heads, sizes, dtype and device seen in ``prototype``, a cache of a real forward."""
        self.shape = SlotShape()
        self.rows = rows
        self.capacity = capacity
        layers = [
            SlotLayer(self.shape, _memory(layer.keys, rows, capacity), _memory(layer.values, rows, capacity))
            for layer in prototype.layers
        ]
        super().__init__(layers=layers)

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for layer in self.layers for t in (layer.keys, layer.values))

    def fill(self, row: int, count: int, source: DynamicCache, index: int, length: int) -> None:
        """Copy ``length`` tokens of sequence ``index`` of a prompt's cache into slots ``row`` … ``row + count - 1``."""
        for layer, prompt in zip(self.layers, source.layers, strict=True):
            for memory, kept in ((layer.keys, prompt.keys), (layer.values, prompt.values)):
                memory[row : row + count, :, :length] = kept[index, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of slot ``source`` over slot ``target``."""
        for layer in self.layers:
            for memory in (layer.keys, layer.values):
                memory[target, :, :length] = memory[source, :, :length]

    def cleanse(self) -> None:
        """Put numbers where none are: a masked position is multiplied by 0, which NaN and infinity survive."""
        for layer in self.layers:
            for memory in (layer.keys, layer.values):
                memory.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for more or longer slots; what is in them stays."""
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)
                new = old.new_zeros((rows, old.shape[1], capacity, old.shape[3]))
                new[: self.rows, :, : self.capacity] = old
                setattr(layer, name, new)
        self.rows, self.capacity = rows, capacity


def bytes_per_token(prototype: DynamicCache) -> int:
    """KV bytes one token takes, over all layers."""
    return sum(
        memory.shape[1] * memory.shape[3] * memory.element_size()
        for layer in prototype.layers
        for memory in (layer.keys, layer.values)
    )


def plain_layers(cache: DynamicCache) -> bool:
    """Whether every layer keeps all keys and values, so that slots can hold them."""
    return len(cache.layers) > 0 and all(type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers)


def _memory(prototype: Tensor, rows: int, capacity: int) -> Tensor:
    """Zeroed: a masked position still multiplies its value by 0, which stray NaNs would survive."""
    return prototype.new_zeros((rows, prototype.shape[1], capacity, prototype.shape[3]))
