"""When training ends before its last step, and which step's weights are published. Functions of the figures alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.rounds.spec import TrainingSettings

KL_WINDOW_STEPS = 10
"""Training steps whose mean KL estimate is held against the budget where nothing is held out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluations so far say."""

    best_step: int | None
    """The step with the lowest held-out loss within the KL budget; None while there is none."""
    stop: str | None
    """Why training ends here; None to go on."""


def judge(evaluations: Sequence[Mapping[str, Any]], recent_kl: Sequence[float], settings: TrainingSettings) -> Verdict:
    """Judge a run by its held-out figures, in the order they were taken.

    Args:
        evaluations: figures of the held-out judgements, each with its 'step'; those at step 0 count for nothing, as
            weights that were not trained are not published.
        recent_kl: KL estimates of the last training steps, nats per completion; they stand in where nothing is held
            out.
        settings: budget and patience.
    """
    trained = [figures for figures in evaluations if figures["step"] > 0]
    budget = settings.kl_budget_nats
    within = [figures for figures in trained if budget is None or figures.get("kl", 0.0) <= budget]
    best = min(within, key=lambda figures: figures["loss"], default=None)  # the earliest of equals
    return Verdict(None if best is None else int(best["step"]), _reason(trained, recent_kl, best, settings))


def _reason(
    trained: Sequence[Mapping[str, Any]],
    recent_kl: Sequence[float],
    best: Mapping[str, Any] | None,
    settings: TrainingSettings,
) -> str | None:
    budget, patience = settings.kl_budget_nats, settings.early_stop_evaluations
    if budget is not None:
        if trained:
            kl, of = trained[-1].get("kl"), "held-out answers"
        else:
            full = len(recent_kl) >= KL_WINDOW_STEPS
            kl, of = (sum(recent_kl) / len(recent_kl) if full else None), f"the last {KL_WINDOW_STEPS} steps' answers"
        if kl is not None and kl > budget:
            text = f"KL budget: {of} are {kl:.4g} nats from the reference, {budget:g} are allowed"
            late = "; no evaluation was within it, so evaluate more often or lower the learning rate"
            return text if best is not None else text + late
    if patience is not None and best is not None:
        since = sum(figures["step"] > best["step"] for figures in trained)
        if since >= patience:
            return (
                f"held-out loss: {since} evaluations in a row were not below {best['loss']:.4f}, that of step "
                f"{best['step']}"
            )
    return None
