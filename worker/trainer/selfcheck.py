"""The audit's model checks: the shared forward against the plain one, and Δ = 0 where the policy is the reference."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from app.rounds.spec import TrainingSettings
from worker.trainer.audit import Finding
from worker.trainer.errors import RefusedError, is_out_of_memory
from worker.trainer.examples import Example
from worker.trainer.forward import Forward
from worker.trainer.packing import ForwardPath, Unit, build, plan
from worker.trainer.reference import completion_keys

FORWARD_SAMPLE = 4
FORWARD_TOLERANCE_NATS = {None: 2e-4, torch.bfloat16: 0.15}
"""Largest difference of a token's log-prob between two ways to compute it, by autocast type."""
DELTA_SAMPLE = 16
DELTA_TOLERANCE_NATS = 1e-4
"""Largest |Δ| of a pair in fp32 where the policy is the reference, per thousand tokens or part of it."""


def choose_path(forward: Forward, examples: Sequence[Example]) -> tuple[ForwardPath, Finding]:
    """How to run the model: groups sharing their prompt, or, where that differs, every completion by itself.

    The yardstick is the model's own forward over one unpadded completion at a time, on real examples.

    Raises:
        RefusedError: the plain rows differ too, so this architecture cannot be trained right.
    """
    chosen = _spread(len(examples), FORWARD_SAMPLE)
    units = [examples[index].unit for index in chosen]
    tolerance = FORWARD_TOLERANCE_NATS[forward.autocast_dtype]
    wanted = [[forward.from_full_logits(unit.prompt_ids, c) for c in unit.completions] for unit in units]
    why = ""
    for path in forward.paths[:-1]:
        try:
            worst = _largest_difference(forward, units, wanted, path)
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            why = f"it fails: {error}"
            continue
        if worst <= tolerance:
            return path, _shares(path, worst, forward, why)
        why = f"it differs by {worst:.2g} nats a token (at most {tolerance:g})"
    worst = _largest_difference(forward, units, wanted, "plain")
    if not worst <= tolerance:
        raise RefusedError(
            f"this architecture's log-probs cannot be reproduced: {worst:.2g} nats a token away from the model's own "
            f"forward (at most {tolerance:g}); use another base model or report its architecture"
        )
    note = f"prompts are computed once per completion, which is slower; {why}"
    return "plain", Finding("shared forward", "not usable for this model", "warn", note)


def _shares(path: ForwardPath, worst: float, forward: Forward, why: str) -> Finding:
    value = f"within {worst:.1e} nats a token of the plain one"
    if forward.device.type == "cuda" and not forward.flex:
        note = "with dense masks, which is slower; FlexAttention needs Triton and a C compiler (apt install gcc)"
        return Finding("shared forward", value, "warn", note)
    if path == forward.paths[0]:
        return Finding("shared forward", value)
    return Finding("shared forward", value, "warn", f"with masks in place of tiles, which is slower; {why}")


@torch.no_grad()
def step_zero(
    forward: Forward,
    examples: Sequence[Example],
    reference: Mapping[str, Tensor],
    settings: TrainingSettings,
    path: ForwardPath,
    *,
    same_model: bool,
) -> Finding:
    """Δ of a sample of pairs before the first step; it must be 0 where the reference is the start itself."""
    sample = [examples[index] for index in _spread(len(examples), DELTA_SAMPLE)]
    units = [example.unit for example in sample]
    keys = completion_keys(units)
    worst_delta = worst_excess = 0.0
    for made in plan(units, range(len(units)), path, settings.tokens_per_row, forward.row_length(settings)):
        batch = build(units, made, path)
        logps = forward(batch).tokens.double().cpu().sum(1)
        for unit in made.units:
            first = batch.first_completion[unit]
            ratio = [float(logps[first + k] - reference[key].double().sum()) for k, key in enumerate(keys[unit])]
            thousands = max(1.0, max(map(len, units[unit].completions)) / 1000)
            if not sample[unit].pairs:  # single answers: each against the reference by itself
                alone = max(abs(rho) for rho in ratio)
                worst_delta, worst_excess = max(worst_delta, alone), max(worst_excess, alone / thousands)
            for pair in sample[unit].pairs:
                delta = abs(ratio[pair.chosen] - ratio[pair.rejected])
                worst_delta = max(worst_delta, delta)
                worst_excess = max(worst_excess, delta / thousands)
    if not same_model:
        return Finding("|Δ| before step 1", f"up to {worst_delta:.3g} nats; the reference is another version")
    if forward.autocast_dtype is None:
        if worst_excess > DELTA_TOLERANCE_NATS:
            note = (
                f"at most {DELTA_TOLERANCE_NATS:g} where the policy is the reference: the stored reference log-probs "
                "are not this model's; remove its folder from the reference store"
            )
            return Finding("|Δ| before step 1", f"up to {worst_delta:.3g} nats", "refuse", note)
        return Finding("|Δ| before step 1", f"up to {worst_delta:.1e} nats, 0 within rounding")
    return Finding("|Δ| before step 1", f"up to {worst_delta:.3g} nats, the noise of bfloat16")


@torch.no_grad()
def _largest_difference(
    forward: Forward, units: Sequence[Unit], wanted: Sequence[Sequence[Tensor]], path: ForwardPath
) -> float:
    """Nats; the groups are packed into one pass, so that neighbours in a row would show."""
    lengths = [unit.plain_length if path == "plain" else unit.shared_length for unit in units]
    worst = 0.0
    for made in plan(units, range(len(units)), path, 4 * max(lengths), sum(lengths) if path == "shared" else None):
        batch = build(units, made, path)
        logps = forward(batch).tokens
        for unit in made.units:
            for k, expected in enumerate(wanted[unit]):
                got = logps[batch.first_completion[unit] + k, : len(expected)]
                difference = float((got - expected).abs().max())
                worst = difference if not difference <= worst else worst
    return worst


def _spread(count: int, wanted: int) -> list[int]:
    """``wanted`` indices spread evenly over ``count``."""
    step = max(1, count // wanted)
    return list(range(0, count, step))[:wanted]
