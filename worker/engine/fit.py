"""Which lane a model gets: slots if its cache is plain and a trial run agrees with the plain forward."""

import logging
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, get_layer_types_and_kwargs

from worker.engine.cache import SlotCache, plain_layers
from worker.engine.lane import Lane
from worker.engine.lockstep import LockstepLane
from worker.engine.slots import Reserve, SlotLane

log = logging.getLogger(__name__)

_PROMPT, _STEPS, _ROWS = 5, 3, 4
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION = 0.1
_MOVING_ROPE = {"dynamic", "longrope"}  # their frequencies follow the longest sequence of the batch


def make_lane(model: Any, *, context_length: int, max_rows: int, reserve: Reserve) -> Lane:
    """The fastest lane that is right for ``model``; logs why when that is the slow one. No gradients are needed."""
    reason = _unfit(model.config.get_text_config(decoder=True), context_length)
    prototype = DynamicCache()
    if reason is None:
        try:
            reason = _trial(model, prototype)
        except Exception as error:  # noqa: BLE001 - whatever an unknown architecture does, the other lane remains
            reason = f"a trial run failed: {type(error).__name__}: {error}"
    if reason is None:
        return SlotLane(model, prototype, context_length=context_length, max_rows=max_rows, reserve=reserve)
    log.warning("engine.lane kind=lockstep model_type=%s reason=%r", model.config.model_type, reason)
    return LockstepLane(model, max_rows=max_rows)


def _unfit(config: Any, context_length: int) -> str | None:
    """Why the configuration rules slots out, or None."""
    types, options = get_layer_types_and_kwargs(config)
    for kind, option in zip(types, options, strict=True):
        window = option.get("sliding_window")
        if kind != "full_attention" and (window is None or window < context_length):
            return f"it has {kind} layers" + (f" of {window} tokens" if window is not None else "")
    rope = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    moving = {part.get("rope_type") for part in (rope, *nested)} & _MOVING_ROPE
    return f"its position encoding is {moving.pop()}" if moving else None


def _trial(model: Any, prototype: DynamicCache) -> str | None:
    """Decode a few tokens through slots and compare with the forward without a cache; fills ``prototype``."""
    device, generator = model.device, torch.Generator().manual_seed(0)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (1, _PROMPT + _STEPS), generator=generator).to(device)
    every = torch.arange(_ROWS, device=device)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[0, _PROMPT:].float()
        positions = torch.arange(_PROMPT, device=device)[None]
        model(input_ids=ids[:, :_PROMPT], position_ids=positions, past_key_values=prototype, use_cache=True)
        if not plain_layers(prototype):
            return f"its cache has layers {sorted({type(layer).__name__ for layer in prototype.layers})}"
        slots = SlotCache(prototype, _ROWS, 16)
        slots.fill(1, 1, prototype, 0, _PROMPT)
        mask = torch.full((_ROWS, 16), -torch.inf, dtype=model.dtype, device=device)
        mask[:, 0] = mask[1, :_PROMPT] = 0
        found = []
        for step in range(_STEPS):
            at = torch.zeros(_ROWS, dtype=torch.int64, device=device)
            at[1] = _PROMPT + step
            mask[every, at] = 0
            slots.shape.step(every, at, 16)
            token = ids[:, _PROMPT + step].expand(_ROWS)[:, None]
            logits = model(
                input_ids=token,
                position_ids=at[:, None],
                attention_mask=mask[:, None, None],
                past_key_values=slots,
                use_cache=True,
            ).logits
            found.append(logits[1, -1].float())
    difference = (torch.stack(found) - expected).norm() / expected.norm()
    tolerance = _TOLERANCE.get(model.dtype, _LOW_PRECISION)
    return None if float(difference) <= tolerance else f"slots changed its logits by {float(difference):.2g}"
