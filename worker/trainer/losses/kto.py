"""KTO: good and bad answers, each by itself, against a shared point of reference."""

import torch
from torch import Tensor

from worker.trainer.losses.labels import Labels


def kto(labels: Labels, *, beta: float, desirable_weight: float, undesirable_weight: float) -> Tensor:
    """Kahneman-Tversky Optimization.

    Args:
        labels: a batch of judged completions, with z0.
        beta: β > 0, per nat.
        desirable_weight: λ_D > 0.
        undesirable_weight: λ_U > 0; λ_D·n_D/(λ_U·n_U) belongs between 1 and 3/2.

    Returns:
        (batch,), unreduced: λ_D(1 − σ(β(ρ − z0))) for a good answer, λ_U(1 − σ(β(z0 − ρ))) for a bad one.
        λ/2 where the policy equals the reference.

    Source: eq. 7, arXiv:2402.01306.
    """
    gain = beta * (labels.completion.log_ratio - labels.baseline)
    good = desirable_weight * (-gain).sigmoid()  # 1 − σ(x) = σ(−x)
    bad = undesirable_weight * gain.sigmoid()
    return torch.where(labels.desirable, good, bad)


def baseline(mismatched_log_ratio: Tensor) -> Tensor:
    """(), nats: z0 = max(0, mean ρ) over answers set under prompts they were not written for; no gradient.

    Args:
        mismatched_log_ratio: (n,), nats, of all mismatched completions of one optimiser step.
    """
    return mismatched_log_ratio.detach().mean().clamp(min=0)  # arXiv:2402.01306
