"""When training ends before its last step, and which step's weights are published. Functions of the figures alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.rounds.spec import TrainingSettings

KL_WINDOW_STEPS = 10
"""Training steps whose mean KL estimate is held against the budget between evaluations."""
_MEND = "evaluate more often or lower the learning rate"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluations so far say."""

    best_step: int | None
    """The step with the lowest comparable held-out loss within the KL budget; None while there is none."""
    stop: str | None
    """Why training ends here; None to go on."""


def judge(evaluations: Sequence[Mapping[str, Any]], recent_kl: Sequence[float], settings: TrainingSettings) -> Verdict:
    """Judge a run by its held-out figures, in the order they were taken.

    Args:
        evaluations: figures of the held-out judgements, each with its 'step'; those at step 0 count for nothing, as
            weights that were not trained are not published.
        recent_kl: KL estimates of the last training steps, nats per completion; they are held against the budget,
            too, once there are ``KL_WINDOW_STEPS``.
        settings: budget and patience.
    """
    trained = [figures for figures in evaluations if figures["step"] > 0]
    budget = settings.kl_budget_nats
    within = [figures for figures in trained if budget is None or figures.get("kl", 0.0) <= budget]
    best = min(within, key=comparable_loss, default=None)  # the earliest of equals
    return Verdict(None if best is None else int(best["step"]), _reason(trained, recent_kl, best, settings))


def comparable_loss(figures: Mapping[str, Any]) -> float:
    """The loss of an evaluation as others have it, too: against a reference that stays, at the weights of the votes."""
    return float(figures.get("comparable_loss", figures["loss"]))


def over_budget(
    evaluations: Sequence[Mapping[str, Any]], recent_kl: Sequence[float], step: int, settings: TrainingSettings
) -> str | None:
    """What to tell of the published weights, those after ``step``, if they are over the KL budget; else None.

    They are judged by their evaluation, or as the last ones by the last training steps where nothing is held out.
    """
    own = [figures for figures in evaluations if figures["step"] == step]
    found = _beyond(own, [] if own else recent_kl, settings.kl_budget_nats)
    if found is None:
        return None
    return f"the published weights, those after step {step}, are over the KL budget: {found}; {_MEND}"


def _reason(
    trained: Sequence[Mapping[str, Any]],
    recent_kl: Sequence[float],
    best: Mapping[str, Any] | None,
    settings: TrainingSettings,
) -> str | None:
    beyond, patience = _beyond(trained, recent_kl, settings.kl_budget_nats), settings.early_stop_evaluations
    if beyond is not None:
        late = f"; no evaluation was within it, so {_MEND}" if trained and best is None else ""
        return f"KL budget: {beyond}{late}"
    if patience is not None and best is not None:
        since = sum(figures["step"] > best["step"] for figures in trained)
        if since >= patience:
            return (
                f"held-out loss: {since} evaluations in a row were not below {comparable_loss(best):.4f}, that of step "
                f"{best['step']}"
            )
    return None


def _beyond(evaluations: Sequence[Mapping[str, Any]], recent_kl: Sequence[float], budget: float | None) -> str | None:
    """Which answers are over the budget: the held-out ones of the last evaluation, or those of the last steps."""
    if budget is None:
        return None
    held_out = evaluations[-1].get("kl") if evaluations else None
    recent = sum(recent_kl) / len(recent_kl) if len(recent_kl) >= KL_WINDOW_STEPS else None
    for of, kl in (("held-out answers", held_out), (f"the last {KL_WINDOW_STEPS} steps' answers", recent)):
        if kl is not None and kl > budget:
            return f"{of} are {kl:.4g} nats from the reference, {budget:g} are allowed"
    return None
