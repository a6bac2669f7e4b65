"""Which lane a model gets: slots if its cache is plain and a trial run agrees with the plain forward."""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, get_layer_types_and_kwargs

from worker.engine.cache import plain_layers
from worker.engine.compiled.runner import CompiledRunner
from worker.engine.lane import Lane
from worker.engine.linear import Packs, Unfit
from worker.engine.lockstep import LockstepLane
from worker.engine.runner import FusedRunner, Runner, TransformersRunner
from worker.engine.slots import Reserve, SlotLane

log = logging.getLogger(__name__)

_PROMPT, _STEPS, _ROWS, _CAPACITY = 5, 3, 4, 16
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION = 0.1
_MOVING_ROPE = {"dynamic", "longrope"}  # their frequencies follow the longest sequence of the batch


def make_lane(
    model: Any, *, context_length: int, max_rows: int, reserve: Reserve, packs: Packs | None = None, fused: bool = True
) -> Lane:
    """The fastest lane that is right for ``model``; logs why when that is a slower one. No gradients are needed.

    ``packs`` has the weights that lanes on the same base share; without ``fused`` transformers' forward is kept.
    """
    reason = _unfit(model.config.get_text_config(decoder=True), context_length)
    for kind in (CompiledRunner, FusedRunner) if reason is None and fused else ():
        try:
            runner = kind(model, context_length=context_length, packs=Packs() if packs is None else packs)
            found = _trial(model, runner)
        except Unfit as unfit:
            found = str(unfit)
        except Exception as error:  # noqa: BLE001 - whatever an unknown variant does, the other forwards remain
            found = f"a trial run failed: {type(error).__name__}: {error}"
        if found is None:
            return SlotLane(runner, context_length=context_length, max_rows=max_rows, reserve=reserve)
        log.info("engine.lane unfit=%s model_type=%s reason=%r", kind.__name__, model.config.model_type, found)
    if reason is None:
        try:
            prototype = _prototype(model)
            plain = TransformersRunner(model, prototype)
            reason = _not_plain(prototype) or _trial(model, plain)
        except Exception as error:  # noqa: BLE001 - whatever an unknown architecture does, the other lane remains
            reason = f"a trial run failed: {type(error).__name__}: {error}"
    if reason is None:
        return SlotLane(plain, context_length=context_length, max_rows=max_rows, reserve=reserve)
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


def _prototype(model: Any) -> DynamicCache:
    """The cache that transformers makes for a short prompt."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=_trial_ids(model)[:, :_PROMPT], past_key_values=cache, use_cache=True)
    return cache


def _not_plain(prototype: DynamicCache) -> str | None:
    if plain_layers(prototype):
        return None
    return f"its cache has layers {sorted({type(layer).__name__ for layer in prototype.layers})}"


def _trial_ids(model: Any) -> Tensor:
    """(1, tokens) of a random text."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (1, _PROMPT + _STEPS), generator=generator).to(model.device)


def _trial(model: Any, runner: Runner) -> str | None:
    """Compute a prompt and decode a few tokens in slots, and compare with the model's forward without a cache."""
    ids = _trial_ids(model)
    tokens = ids[0].tolist()
    every = torch.arange(_ROWS, device=model.device)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[0, _PROMPT - 1 :].float()
        memory, logits = runner.prefill([tokens[:_PROMPT]])
        found = [logits[0].float()]
        runner.grow(_ROWS, _CAPACITY)
        runner.place(memory, 0, _PROMPT, 1, 1)
        mask = torch.full((_ROWS, _CAPACITY), -torch.inf, dtype=model.dtype, device=model.device)
        mask[:, 0] = mask[1, :_PROMPT] = 0
        for place in range(_PROMPT, len(tokens)):
            at = torch.zeros(_ROWS, dtype=torch.int64, device=model.device)
            at[1] = place
            mask[every, at] = 0
            decoded = runner.decode(ids[0, place].repeat(_ROWS), at, mask if runner.masked else None)
            found.append(decoded[1].float().clone())  # the next step takes the same memory
        runner.drop()
    difference = (torch.stack(found) - expected).norm() / expected.norm()
    tolerance = _TOLERANCE.get(model.dtype, _LOW_PRECISION)
    # Not "greater than": what is no number fails, unless the model itself computes none.
    agrees = float(difference) <= tolerance or not expected.isfinite().all()
    return None if agrees else f"slots changed its logits by {float(difference):.2g}"
