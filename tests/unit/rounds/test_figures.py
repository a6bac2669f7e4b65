"""What a round's page takes from the trainer's lines."""

from app.rounds.figures import Best, figures

AUDIT = {
    "kind": "audit",
    "findings": [
        {"name": "BOS", "value": "one in every prompt", "level": "ok", "note": ""},
        {"name": "end tokens", "value": "3 lack it", "level": "refuse", "note": "keep the sampled ids"},
    ],
}


def test_nothing_yet() -> None:
    shown = figures([])
    assert (shown.charts, shown.audit, shown.alarm, shown.stopped, shown.best) == ([], [], None, None, None)
    assert not shown.refused


def test_audit_best_step_and_the_reason_of_an_early_stop() -> None:
    shown = figures(
        [
            AUDIT,
            {"kind": "train", "step": 1, "steps": 9, "loss": 0.6, "kl": 0.1, "length_delta": 2.0},
            {"kind": "best", "step": 1, "loss": 0.61},
            {"kind": "best", "step": 2, "loss": 0.6},
            {"kind": "train", "step": 3, "steps": 9, "loss": 0.6, "kl": 0.2, "length_delta": 2.5},
            {"kind": "early_stop", "step": 3, "reason": "KL budget: too far"},
            {"kind": "over_budget", "step": 3, "message": "the published weights are over it"},
        ]
    )
    assert shown.best == Best(2, 0.6, None)
    assert (shown.stopped, shown.steps_done, shown.steps_total) == ("KL budget: too far", 3, 9)
    assert shown.over_budget == "the published weights are over it"
    assert [(check.name, check.level) for check in shown.audit] == [("BOS", "ok"), ("end tokens", "refuse")]
    assert (shown.to_look_at, shown.refused) == (1, True)
    assert {chart.title for chart in shown.charts} >= {
        "Loss",
        "Distance from the reference (KL)",
        "Chosen answers longer by",
    }


def test_a_round_that_only_raised_the_held_out_loss_says_so() -> None:
    def best(*losses: float) -> Best:
        lines = [{"kind": "eval", "step": step, "loss": loss} for step, loss in enumerate(losses)]
        lowest = min(lines[1:], key=lambda line: line["loss"])
        found = figures([*lines, lowest | {"kind": "best"}]).best
        assert found is not None
        return found

    assert best(0.69315, 0.6946, 0.6943) == Best(2, 0.6943, 0.69315)
    assert best(0.69315, 0.6946, 0.6943).worse
    assert not best(0.69315, 0.6946, 0.6931).worse
    assert not best(0.69315, 0.69316).worse
