"""CUDA graphs: passes of a shape that comes again and again are recorded once and played back.

A small model, or a step of few tokens, keeps a GPU waiting for kernels to be launched: the eight layers of a model of
42 million parameters took 55 ms a step of which the GPU worked 6. Played back, a pass through the layers and back is
two launches. What is recorded has one shape and fixed places in memory; head and loss, whose shapes differ from pass
to pass, are not.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from worker.trainer.packing import Batch

PASSES_BEFORE = 1
"""A shape is recorded when it comes for the second time: kernels are compiled by then, and recording takes about as
long as the pass that it replaces."""
MOST_SHAPES = 24
"""Each keeps its graphs and its output; the rest of its memory is shared with the others."""
TOKENS_TIMES_WEIGHTS_A_LAYER = 6e10
"""Beyond as many tokens of a pass times parameters of a layer, the GPU is slower than the launching of its kernels."""

log = logging.getLogger(__name__)

Decode = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Ids (B, T), positions (B, T) and spans (3, B, T) to the last hidden states (B, T, D)."""


@dataclass(frozen=True, slots=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    forward: torch.cuda.CUDAGraph
    hidden: Tensor
    slope: Tensor | None = None
    backward: torch.cuda.CUDAGraph | None = None


class Recorder:
    """A decoder's passes, recorded where that pays.

    Gradients of a recorded pass are added to those that parameters have, in the memory where they are: whoever zeroes
    them leaves them there (``holds_gradients``). Where a recording fails, passes are made as usual from then on.
    """

    def __init__(self, decode: Decode, parameters: Callable[[], list[nn.Parameter]], weights_a_layer: float) -> None:
        """``parameters`` tells those that have gradients at present."""
        self._decode, self._parameters = decode, parameters
        self._most_tokens = TOKENS_TIMES_WEIGHTS_A_LAYER / max(1.0, weights_a_layer)
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._recordings: dict[tuple[Any, ...], _Recording] = {}
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []
        self._pool = torch.cuda.graph_pool_handle()
        self._anchor = torch.zeros((), device="cuda", requires_grad=True)
        self._stream = _own_stream()

    @property
    def holds_gradients(self) -> bool:
        """Whether recordings add to gradients where they now lie."""
        return bool(self._gradients)

    def __call__(self, batch: Batch) -> Tensor | None:
        """(B, T, D), the last hidden states, valid until the next call; None where the pass is to be made as usual."""
        if batch.ids.numel() > self._most_tokens:
            return None
        inputs = (batch.ids, batch.positions, batch.spans)
        learns = torch.is_grad_enabled()
        if learns and any(parameter.grad is not held for parameter, held in self._gradients):
            self._recordings.clear()
            self._gradients = []
        key = (*batch.ids.shape, learns)
        if key not in self._recordings:
            self._seen[key] += 1
            if self._seen[key] <= PASSES_BEFORE or len(self._recordings) == MOST_SHAPES:
                return None
            try:
                self._recordings[key] = self._record(inputs, learns=learns)
            except RuntimeError as error:
                self._give_up(error)
                return None
        recording = self._recordings[key]
        for place, value in zip(recording.inputs, inputs, strict=True):
            place.copy_(value)
        if not learns:
            recording.forward.replay()
            return recording.hidden
        apply: Callable[..., Tensor] = _Played.apply
        return apply(self._anchor, recording)

    def _record(self, inputs: tuple[Tensor, ...], *, learns: bool) -> _Recording:
        held = tuple(value.clone() for value in inputs)
        forward = torch.cuda.CUDAGraph()
        if not learns:
            with torch.cuda.graph(forward, pool=self._pool, stream=self._stream):
                hidden = self._decode(*held)
            return _Recording(held, forward, hidden)
        parameters = self._parameters()
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        with torch.cuda.graph(forward, pool=self._pool, stream=self._stream):
            hidden = self._decode(*held)
        slope = torch.zeros_like(hidden)
        backward = torch.cuda.CUDAGraph()
        with torch.cuda.graph(backward, pool=self._pool, stream=self._stream):
            made = torch.autograd.grad(hidden, parameters, slope, allow_unused=True)
            used = [(held, new) for (_, held), new in zip(self._gradients, made, strict=True) if new is not None]
            torch._foreach_add_([held for held, _ in used], [new for _, new in used])
        return _Recording(held, forward, hidden.detach(), slope, backward)

    def _give_up(self, error: RuntimeError) -> None:
        log.warning("passes cannot be recorded as CUDA graphs, which is slower: %s", str(error).partition("\n")[0])
        self._most_tokens = 0.0
        self._recordings.clear()
        self._gradients = []
        # A recording that failed leaves the random numbers waiting for its end.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


def _own_stream() -> torch.cuda.Stream:
    """A stream that this thread works on from here on: nothing can be recorded on the default one.

    Passes before the recording are made on it, too; else gradients would be added on another one than recorded.
    """
    current = torch.cuda.current_stream()
    if current == torch.cuda.default_stream():
        current.synchronize()
        current = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        torch.cuda.set_stream(current)
    return current


class _Played(torch.autograd.Function):
    """The hidden states of a recorded pass; its gradients are added by the recording itself."""

    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, recording: _Recording) -> Tensor:
        recording.forward.replay()
        ctx.recording = recording
        return recording.hidden.view_as(recording.hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        recording = ctx.recording
        recording.slope.copy_(grad)
        recording.backward.replay()
        return None, None
