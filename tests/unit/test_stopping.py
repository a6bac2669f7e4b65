"""When a run ends early, and whose weights it publishes."""

from typing import Any

import pytest

from app.rounds.spec import TrainingSettings
from worker.trainer.stopping import judge, over_budget


def evaluations(losses: list[float], kls: list[float] | None = None) -> list[dict[str, Any]]:
    """At steps 0, 10, 20 …"""
    return [
        {"step": 10 * i, "loss": loss, "kl": kl}
        for i, (loss, kl) in enumerate(zip(losses, kls or [0.0] * len(losses), strict=True))
    ]


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings.from_dict({"eval_every_steps": 10} | changes)


def test_the_lowest_held_out_loss_is_the_best_and_the_start_never() -> None:
    assert judge(evaluations([0.5, 0.69, 0.61, 0.66]), [], settings()).best_step == 20
    assert judge(evaluations([0.5]), [], settings()).best_step is None
    assert judge(evaluations([0.69, 0.6, 0.6]), [], settings()).best_step == 10, "the earlier of equals"


def test_patience_counts_evaluations_since_the_best() -> None:
    chosen = settings(early_stop_evaluations=2)
    assert judge(evaluations([0.69, 0.60, 0.61]), [], chosen).stop is None
    verdict = judge(evaluations([0.69, 0.60, 0.61, 0.62]), [], chosen)
    assert verdict.best_step == 10
    assert verdict.stop == "held-out loss: 2 evaluations in a row were not below 0.6000, that of step 10"
    assert judge(evaluations([0.69, 0.60, 0.61, 0.59]), [], chosen).stop is None


def test_beyond_the_kl_budget_training_stops_and_the_best_within_it_is_published() -> None:
    verdict = judge(evaluations([0.69, 0.6, 0.5, 0.4], [0, 1.0, 1.9, 2.1]), [], settings(kl_budget_nats=2.0))
    assert verdict.best_step == 20
    assert verdict.stop == "KL budget: held-out answers are 2.1 nats from the reference, 2 are allowed"


def test_a_budget_that_no_evaluation_kept_says_what_to_do() -> None:
    verdict = judge(evaluations([0.69, 0.5], [0, 3.0]), [], settings(kl_budget_nats=2.0))
    assert verdict.best_step is None
    assert verdict.stop is not None
    assert "no evaluation was within it" in verdict.stop


@pytest.mark.parametrize(("kl", "stops"), [(1.9, False), (2.1, True)])
def test_without_held_out_answers_the_last_training_steps_are_held_against_the_budget(kl: float, stops: bool) -> None:
    chosen = TrainingSettings.from_dict({"kl_budget_nats": 2.0})
    assert judge([], [9.0] * 9, chosen).stop is None, "fewer steps than the window"
    assert (judge([], [kl] * 10, chosen).stop is not None) is stops


def test_between_evaluations_the_last_training_steps_are_held_against_the_budget() -> None:
    verdict = judge(evaluations([0.69, 0.6], [0, 1.0]), [2.5] * 10, settings(kl_budget_nats=2.0))
    assert verdict.best_step == 10
    assert verdict.stop == "KL budget: the last 10 steps' answers are 2.5 nats from the reference, 2 are allowed"


def test_published_weights_over_the_budget_are_told() -> None:
    chosen, taken = settings(kl_budget_nats=2.0), evaluations([0.69, 0.5], [0, 3.0])
    told = over_budget(taken, [1.0] * 10, 10, chosen)
    assert told is not None
    assert "after step 10, are over the KL budget: held-out answers are 3 nats" in told
    assert over_budget(evaluations([0.69, 0.5], [0, 1.0]), [3.0] * 10, 10, chosen) is None, "its own evaluation counts"
    assert over_budget([], [3.0] * 10, 10, chosen) is not None
    assert over_budget([], [3.0] * 10, 10, settings()) is None


def test_losses_are_compared_as_others_have_them() -> None:
    """The loss that is trained on may be against a reference that just moved."""
    taken = evaluations([0.69, 0.69, 0.69])
    for figures, loss in zip(taken, (0.69, 0.5, 0.6), strict=True):
        figures["comparable_loss"] = loss
    verdict = judge(taken, [], settings(early_stop_evaluations=1))
    assert verdict.best_step == 10
    assert verdict.stop is not None
    assert "not below 0.5000" in verdict.stop
