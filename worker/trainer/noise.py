"""Whether DPOP can tell a chosen answer that fell from rounding.

Its penalty λ·max(0, −ρ_w) is one-sided: noise of ρ_w is not averaged out but adds up, λβ times over (15 at the
defaults), so that in bf16 the policy would be paid for rounding. The noise is measured, and bounded.
"""

from collections.abc import Sequence

import torch

from app.rounds.spec import TrainingSettings
from worker.trainer.audit import Finding
from worker.trainer.examples import Example
from worker.trainer.forward import Forward
from worker.trainer.packing import ForwardPath, build, plan

PENALTY_NOISE_BOUND = 0.1
"""Largest λβ·|noise of ρ_w| at step 0: what it may add to the argument of the logistic, whose slope there is ½."""
SAMPLE = 16


@torch.no_grad()
def dpop_noise(
    forward: Forward, examples: Sequence[Example], settings: TrainingSettings, path: ForwardPath
) -> list[Finding]:
    """Compares the policy with itself: chosen answers packed as in training, and each alone by the plain forward.

    Nothing for other losses and in fp32, where the noise is a thousand times below the bound.
    """
    if settings.loss != "dpop" or forward.autocast_dtype is None:
        return []
    step = max(1, len(examples) // SAMPLE)
    sample = examples[::step][:SAMPLE]
    units = [example.unit for example in sample]
    worst = 0.0
    for made in plan(units, range(len(units)), path, settings.tokens_per_row, forward.row_length(settings)):
        batch = build(units, made, path)
        sums = forward(batch).tokens.double().sum(1).cpu()
        for unit in made.units:
            for k in {pair.chosen for pair in sample[unit].pairs}:
                alone = forward.from_full_logits(units[unit].prompt_ids, units[unit].completions[k]).double().sum()
                worst = max(worst, abs(float(sums[batch.first_completion[unit] + k]) - float(alone)))
    penalty = settings.loss_settings["beta"] * settings.loss_settings["dpop_lambda"] * worst
    value = f"chosen answers within {worst:.2g} nats, {penalty:.3g} in the penalty"
    if penalty <= PENALTY_NOISE_BOUND:
        return [Finding("rounding that DPOP would pay for", value)]
    note = (
        f"at most {PENALTY_NOISE_BOUND:g}, for the penalty is one-sided and noise adds up in it; use dtype float32, a "
        "smaller dpop_lambda, or loss 'dpo_nll'"
    )
    return [Finding("rounding that DPOP would pay for", value, "refuse", note)]
