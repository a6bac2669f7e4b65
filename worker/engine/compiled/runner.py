"""The fused runner with its tokens computed by one compiled call, for small float32 models on a CPU.

In a small model the time of a token lies in the calls between the operators. Here there is one, without the
interpreter's lock, and threads share the rows. Prompts are computed by the fused forward.
"""

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.compiled.crew import crew
from worker.engine.compiled.decode import decode, scratch_size
from worker.engine.compiled.laid import laid_out
from worker.engine.compiled.vectors import LANES, PANEL
from worker.engine.linear import Packs, Unfit
from worker.engine.runner import FusedRunner

LARGEST_BYTES = 96 << 20
"""Of a model's weights. Larger ones do not stay in a processor's cache, and threads that share rows read them all."""


class CompiledRunner(FusedRunner):
    """Slots as compiled code reads them: for each head the keys, ``LANES`` tokens side by side, then the values."""

    row_tile = 1
    masked = False

    def __init__(self, model: Any, *, context_length: int, packs: Packs) -> None:
        """Raises Unfit where the model is no decoder of Llama's shape, or nothing is won by this."""
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise Unfit(f"it computes in {model.dtype} on {model.device}")
        size = sum(p.numel() * 4 for p in {id(p): p for p in model.parameters()}.values())
        if size > LARGEST_BYTES:
            raise Unfit(f"its weights take {size >> 20} MB")
        super().__init__(model, context_length=context_length, packs=packs)
        self._logits = np.empty(0, np.float32)
        """Of one step, taken by the next."""
        self._rooms = threading.local()
        self._shape, self._weights, self._adapter = laid_out(model, self._forward, packs)

    def place(self, prompts: Any, index: int, length: int, row: int, count: int) -> None:
        """See ``Runner``."""
        memory = prompts[index] if isinstance(prompts, list) else prompts
        heads, size = self._forward.kv_heads, self._forward.head_size
        keys, values = memory[:, :length].view(self._layers, length, 2, heads, size).permute(2, 0, 3, 1, 4)
        blocks = -(-length // LANES)
        side = keys.new_zeros((self._layers, heads, blocks * LANES, size))
        side[:, :, :length] = keys
        side = side.view(self._layers, heads, blocks, LANES, size).transpose(3, 4).reshape(self._layers, heads, -1)
        self._memory[:, row : row + count, :, 0, : side.shape[-1]] = side[:, None]
        self._memory[:, row : row + count, :, 1, : length * size] = values.reshape(self._layers, 1, heads, -1)

    def move(self, source: int, target: int, length: int) -> None:
        """See ``Runner``."""
        used = -(-length // LANES) * LANES * self._forward.head_size
        self._memory[:, target, ..., :used] = self._memory[:, source, ..., :used]

    def decode(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002 - slots know their length
        """See ``Runner``."""
        rows, wide = len(ids), self._shape.vocabulary_width
        tokens, places, memory = ids.numpy(), positions.numpy(), self._memory.view(-1).numpy()
        slots, capacity, logits = self.rows, self.capacity, self._logits

        def work(first: int, last: int) -> None:
            scratch = self._scratch(last - first, capacity)
            decode(
                tokens, places, memory, slots, capacity, first, last, self._shape, self._weights, self._adapter,
                scratch, logits,
            )  # fmt: skip

        crew.split(rows, work, measured=True)
        return torch.from_numpy(logits[: rows * wide]).view(rows, wide)[:, : self.vocabulary]

    def grow(self, rows: int, capacity: int) -> None:
        """See ``Runner``."""
        memory, kept = self._zeros(rows, capacity), self._memory
        memory[:, : kept.shape[1], ..., : kept.shape[-1]] = kept
        self._memory = memory
        self._logits = np.empty(rows * self._shape.vocabulary_width, np.float32)

    def drop(self) -> None:
        """See ``Runner``."""
        super().drop()
        self._logits = np.empty(0, np.float32)

    @property
    def capacity(self) -> int:
        """Tokens a slot takes."""
        return self._memory.shape[-1] // self._forward.head_size

    def _scratch(self, rows: int, capacity: int) -> Any:
        """Room for one thread's intermediate numbers, kept from step to step."""
        size = scratch_size(rows, capacity, self._shape)
        kept = getattr(self._rooms, "scratch", None)
        if kept is None or len(kept) < size:
            kept = self._rooms.scratch = np.empty(size, np.float32)
        return kept

    def _zeros(self, rows: int, capacity: int) -> Tensor:
        tokens = -(-capacity // PANEL) * PANEL
        heads, size = self._forward.kv_heads, self._forward.head_size
        return torch.zeros((self._layers, rows, heads, 2, tokens * size))
