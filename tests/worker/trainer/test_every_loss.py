"""Whole runs with every loss: each starts where its formula says, falls, and learns from the signals it should."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from app.rounds.spec import LOSSES
from app.versions.manifest import VersionInfo
from tests.factories.jobs import make_groups, write_job
from tests.factories.models import random_model, version_directory
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import Event

Run = tuple[list[Event], dict[str, Any]]


def groups_with_everything() -> list[dict[str, Any]]:
    """Four groups of three answers: twelve preferences of which one is a tie, one 'both bad' and ten are choices.

    One answer is good, one bad by itself; one ranking is strict, one has equals at its end.
    """
    groups = make_groups(4, 1, completions=3, words=6)
    groups[0]["preferences"][0]["outcome"] = "tie"
    groups[1]["preferences"][1]["outcome"] = "both_bad"
    groups[2]["labels"] = [{"completion": 0, "desirable": True}, {"completion": 1, "desirable": False}]
    groups[3]["rankings"] = [{"tiers": [[1], [0], [2]]}, {"tiers": [[1], [0, 2]], "weight": 2.0}]
    return groups


def train(tmp_path: Path, groups: list[dict[str, Any]], **settings: Any) -> Run:
    """Full batches of everything, so that only what is learned changes the loss; returns events and figures."""
    job = write_job(
        tmp_path / "job",
        groups=groups,
        **{"pairs_per_step": 1000, "epochs": 4, "warmup_ratio": 0.0, "learning_rate": 3e-3} | settings,
    )
    events: list[Event] = []
    version = run(job, "t", Stop(), events.append)
    return events, VersionInfo.read(version).metrics


def losses(events: list[Event]) -> list[float]:
    return [event["loss"] for event in events if event["kind"] == "train"]


CHOICES = {"choice": 10, "ranking": 2}
TIES = CHOICES | {"tie": 1}
LEFT = {"tie": 1, "both_bad": 1, "label": 2, "tie in a ranking": 1}
LOG_2 = math.log(2)
# Ten choices, the pairs of a ranking of weight 1 and of one of weight 2 (with its tie: a third of that), one tie.
WITH_TIES = (10 + 1 + 2 * 2 / 3) * math.log(4) + (1 + 2 / 3) * LOG_2

START: dict[str, float | None] = {
    "sigmoid": LOG_2,
    "dpop": LOG_2,
    "ipo": 25.0,
    "ipo_sum": 25.0,
    "hinge": 1.0,
    "cdpo": LOG_2,
    "robust": LOG_2,
    "exo_pair": -LOG_2 - math.log(0.999 * 0.001) / 2,
    "discopop": (LOG_2 + 1) / 2,
    "length_normalised": LOG_2,
    "ld_dpo": LOG_2,
    "rdpo": None,
    "dpo_nll": None,
    "mpo": None,
    "simpo": None,
    "orpo": None,
    "kto": 0.5,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "nca_pair": 2 * LOG_2,
    "bco_pair": 2 * LOG_2,
    "sppo_hard": 50.0,
    "rao_kupper": WITH_TIES / 14,
    "davidson": WITH_TIES / 14,
    # Ten choices, a strict ranking of three, and twice one whose best alone is told apart.
    "plackett_luce": (10 * LOG_2 + math.log(6) + 2 * math.log(3)) / 13,
}
"""None: it depends on the answers and is worked out from the model below."""

SIGNALS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    name: (CHOICES, LEFT) for name, spec in LOSSES.items() if spec.shape == "pairs"
} | {
    "rao_kupper": (TIES, {"both_bad": 1, "label": 2}),
    "davidson": (TIES, {"both_bad": 1, "label": 2}),
    "kto": ({"choice": 10, "both_bad": 1, "label": 2}, {"tie": 1, "ranking": 2}),
    "plackett_luce": (CHOICES, {"tie": 1, "both_bad": 1, "label": 2}),
}
"""What each learns from, and what is left out, by name. The held-out group has three choices more."""


@pytest.mark.parametrize("loss", list(LOSSES))
def test_run(tmp_path: Path, loss: str) -> None:
    groups = groups_with_everything()
    # IPO's target of 5 nats a token is far away, and DPOP's kink at the start is steep.
    rate = {"ipo": 1e-2, "dpop": 1e-3}.get(loss, 3e-3)
    events, figures = train(tmp_path, groups, loss=loss, learning_rate=rate)
    values = losses(events)
    start = START[loss]
    assert values[0] == pytest.approx(start if start is not None else expected_start(groups, loss), abs=2e-5)
    assert values[-1] < values[0]
    used, left = SIGNALS[loss]
    assert figures["learned_from"] == used | {"choice": used["choice"] + 3}
    assert figures["left_out"] == left
    table = next(event["table"] for event in events if event["kind"] == "audit")
    assert all(f"left out: {name}" in table for name in left)
    assert figures["eval"]["end"]["accuracy"] is not None


def expected_start(groups: list[dict[str, Any]], loss: str) -> float:
    """The mean loss of the untrained model, from whole logits of one answer after the other."""
    model = random_model("llama")
    total = weights = 0.0
    for group in groups[:4]:
        answers = []
        for answer in group["completions"]:
            ids = group["prompt_ids"] + answer["ids"]
            with torch.no_grad():
                logps = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            tokens = logps[range(len(ids) - 1), ids[1:]][len(group["prompt_ids"]) - 1 :]
            answers.append((float(tokens.mean()), len(tokens)))
        for won, lost, weight in choices(group):
            (w, w_size), (x, x_size) = answers[won], answers[lost]
            total += weight * start_value(loss, w, w_size, x, x_size)
            weights += weight
    return total / weights


def choices(group: dict[str, Any]) -> list[tuple[int, int, float]]:
    """Winner, loser and weight; a ranking's weight is shared by the pairs in it."""
    found = []
    for preference in group["preferences"]:
        if preference["outcome"] in ("a", "b"):
            a, b = preference["a"], preference["b"]
            found.append((a, b, 1.0) if preference["outcome"] == "a" else (b, a, 1.0))
    if group.get("rankings"):
        found += [(1, 0, 1 / 3), (1, 2, 1 / 3), (0, 2, 1 / 3), (1, 0, 1.0), (1, 2, 1.0)]
    return found


def start_value(loss: str, w: float, w_size: int, x: float, x_size: int) -> float:
    """With the defaults, of mean log-probs ``w`` and ``x``; policy and reference agree."""
    if loss == "rdpo":
        return math.log1p(math.exp(-0.01 * (w_size - x_size)))
    if loss == "dpo_nll":
        return LOG_2 - w
    if loss == "mpo":
        return 1.2 * LOG_2 - w
    if loss == "simpo":
        return math.log1p(math.exp(-(2 * (w - x) - 1)))
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (w, x)]
    return -w + 0.1 * math.log1p(odds[1] / odds[0])


def test_margins_are_read_scaled_or_left_out(tmp_path: Path) -> None:
    """Half of the choices have a margin of 0.5: −log σ(−δ) at the start, δ = 1 at a scale of 2."""
    groups = make_groups(4, 0)
    for group in groups[:2]:
        group["preferences"][0]["margin"] = 0.5

    def start(scale: float) -> tuple[float, dict[str, Any]]:
        events, figures = train(tmp_path / str(scale), groups, margin_scale=scale, epochs=1)
        return losses(events)[0], figures

    value, figures = start(2.0)
    assert value == pytest.approx((LOG_2 + math.log1p(math.e)) / 2, abs=1e-5)
    assert figures["learned_from"]["margin"] == 2
    value, figures = start(0.0)
    assert value == pytest.approx(LOG_2, abs=1e-5)
    assert figures["left_out"] == {"margin": 2}


def test_wpo_weighs_what_the_policy_would_not_write(tmp_path: Path) -> None:
    """The hinge starts at 1 a pair, so what the first step reports is the mean weight."""
    events, _ = train(tmp_path, make_groups(4, 0), loss="hinge", pair_weighting="wpo", epochs=1)
    (step,) = (event for event in events if event["kind"] == "train")
    assert 0 < step["wpo_weight"] < 1
    assert step["loss"] == pytest.approx(step["wpo_weight"], rel=1e-4)


def test_another_divergence_starts_alike_and_learns_otherwise(tmp_path: Path) -> None:
    """The same first step to the last digit that fp32 has; figures stay log-ratios and differ from the second on."""
    told = {}
    for name in ("reverse_kl", "forward_kl"):
        given = {"loss_settings": {"beta": 1.0}, "f_divergence": name}
        events, figures = train(tmp_path / name, make_groups(4, 1), epochs=6, **given)
        told[name] = [event for event in events if event["kind"] == "train"]
        assert figures["eval"]["end"]["accuracy"] is not None
    plain, other = told["reverse_kl"], told["forward_kl"]
    assert other[0]["loss"] == pytest.approx(LOG_2, abs=1e-5)
    assert other[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=1e-3)
    assert other[-1]["margin"] > 0
    assert abs(other[-1]["margin"] - plain[-1]["margin"]) > 1e-3
    assert other[-1]["margin"] == pytest.approx(
        other[-1]["chosen_log_ratio"] - other[-1]["rejected_log_ratio"], abs=1e-4
    )


def test_a_reference_that_moves_starts_the_loss_anew(tmp_path: Path) -> None:
    """Moved all the way after step 2, the loss of step 3 is log 2 again; figures stay against the job's reference."""
    events, _ = train(tmp_path, make_groups(4, 0), loss="tr_dpo", reference_sync_steps=2, reference_sync_alpha=1.0)
    values = losses(events)
    assert values[1] < LOG_2 - 1e-3
    assert values[2] == pytest.approx(LOG_2, abs=1e-5)
    steps = [event for event in events if event["kind"] == "train"]
    assert steps[2]["margin"] > steps[1]["margin"] > 0
    assert [event["step"] for event in events if event["kind"] == "reference"] == [2, 4]


def test_the_shift_of_bco_is_the_mean_of_the_steps_before(tmp_path: Path) -> None:
    """0 in the first step; evaluations read it and leave it alone; a reference that moves starts it anew."""
    events, figures = train(tmp_path / "plain", make_groups(4, 1), loss="bco_pair", epochs=6, eval_every_steps=2)
    steps = [event for event in events if event["kind"] == "train"]
    means = [step["pair_log_ratio"] for step in steps]
    assert abs(means[-1]) > 1e-3
    assert means == pytest.approx([(s["chosen_log_ratio"] + s["rejected_log_ratio"]) / 2 for s in steps], abs=1e-5)
    expected = [0.0, *(sum(means[:k]) / k for k in range(1, 6))]
    assert [step["shift"] for step in steps] == pytest.approx(expected, abs=1e-6)
    assert figures["eval"]["end"]["shift"] == pytest.approx(sum(means) / 6, abs=1e-6)
    events, _ = train(
        tmp_path / "moving",
        make_groups(4, 0),
        loss="bco_pair",
        epochs=6,
        reference_sync_steps=3,
        reference_sync_alpha=1.0,
    )
    steps = [event for event in events if event["kind"] == "train"]
    assert [step["shift"] == 0 for step in steps] == [True, False, False, True, False, False]
    # Against a reference that moved all the way the next step starts at 0, while figures stay against the job's.
    assert steps[3]["pair_log_ratio"] == pytest.approx(0, abs=1e-4)
    assert steps[3]["loss"] == pytest.approx(2 * LOG_2, abs=1e-5)
    assert abs(steps[3]["chosen_log_ratio"]) > 1e-3


@pytest.mark.parametrize(
    "kept",
    [{"reference_sync_steps": 3}, {"loss": "bco_pair"}, {"loss": "mpo", "reference_sync_steps": 3}],
    ids=["reference", "shift", "both"],
)
def test_what_a_loss_remembers_survives_kills(tmp_path: Path, kept: dict[str, Any]) -> None:
    """Killed after steps 4 and 5, both between two moves, and gone on with: bit for bit the weights of one run."""
    settings = kept | {"checkpoint_every_steps": 1, "epochs": 7, "pairs_per_step": 1000}
    whole = write_job(tmp_path / "whole", groups=make_groups(4, 0), **settings)
    parts = write_job(tmp_path / "parts", groups=make_groups(4, 0), **settings)

    class KilledError(Exception):
        pass

    for step in (4, 5):

        def until(event: Event, step: int = step) -> None:
            if event["kind"] == "checkpoint" and event["step"] == step:
                raise KilledError

        with pytest.raises(KilledError):
            run(parts, f"until-{step}", Stop(), until)
    events: list[Event] = []
    second = run(parts, "to-the-end", Stop(), events.append)
    assert any(event["kind"] == "resumed" and event["step"] == 5 for event in events)
    first = run(whole, "t", Stop(), lambda _event: None)
    weights = [(version / "adapter_model.safetensors").read_bytes() for version in (first, second)]
    assert weights[0] == weights[1]


def test_kto_learns_from_single_answers_alone(tmp_path: Path) -> None:
    """No pair anywhere: good answers rise above bad ones, and the audit warns that they are out of balance."""
    groups = make_groups(6, 2)
    for number, group in enumerate(groups):
        group["preferences"] = []
        group["completions"] = group["completions"][:1]
        group["labels"] = [{"completion": 0, "desirable": number % 3 == 0}]
    events, figures = train(tmp_path, groups, loss="kto", epochs=6)
    assert losses(events)[-1] < losses(events)[0] == pytest.approx(0.5, abs=1e-6)
    last = [event for event in events if event["kind"] == "train"][-1]
    assert last["chosen_log_ratio"] > last["rejected_log_ratio"]
    assert last["margin"] == pytest.approx(last["chosen_log_ratio"] - last["rejected_log_ratio"])
    balance = next(f for f in figures["audit"] if f["name"] == "good and bad answers")
    assert balance["level"] == "warn"
    assert "set desirable_weight between 2 and 3" in balance["note"]


def test_ties_alone_bring_answers_together(tmp_path: Path) -> None:
    """From a start that differs from its reference, a tie model shrinks |Δ|; there is no accuracy to tell."""
    groups = make_groups(4, 1)
    for group in groups:
        group["preferences"][0]["outcome"] = "tie"
    events, figures = train(
        tmp_path,
        groups,
        loss="davidson",
        reference=version_directory("llama", 1),
        epochs=6,
        loss_settings={"beta": 1.0},
    )
    steps = [event for event in events if event["kind"] == "train"]
    assert steps[-1]["tie_distance"] < steps[0]["tie_distance"]
    assert "accuracy" not in steps[0]
    assert "accuracy" not in figures["eval"]["end"]
    assert json.dumps(figures)


def test_a_loss_without_its_signal_says_so(tmp_path: Path) -> None:
    _, ties = train(tmp_path / "ties", make_groups(4, 0), loss="rao_kupper", epochs=1)
    assert any(f["name"] == "ties to learn from" and f["level"] == "warn" for f in ties["audit"])
    _, rankings = train(tmp_path / "rankings", make_groups(4, 0), loss="plackett_luce", epochs=1)
    assert any(f["name"] == "rankings to learn from" and f["level"] == "warn" for f in rankings["audit"])


def test_discopop_that_pulls_against_the_vote_says_so(tmp_path: Path) -> None:
    said = {}
    for tau in (0.1, 0.11):
        _, figures = train(
            tmp_path / str(tau), make_groups(4, 0), loss="discopop", loss_settings={"discopop_tau": tau}, epochs=1
        )
        said[tau] = [f["note"] for f in figures["audit"] if f["name"] == "τ of DiscoPOP" and f["level"] == "warn"]
    assert len(said[0.1]) == 1
    assert "set discopop_tau to 0.11 or more" in said[0.1][0]
    assert said[0.11] == []


def test_a_setting_that_the_job_is_too_small_for_says_so(tmp_path: Path) -> None:
    """Two steps, and nothing held out: the reference would move after 3, and no held-out loss can stop anything."""
    settings = {"reference_sync_steps": 3, "eval_every_steps": 1, "early_stop_evaluations": 1, "epochs": 2}
    _, figures = train(tmp_path / "small", make_groups(4, 0), **settings)
    said = {f["name"]: f["note"] for f in figures["audit"] if f["level"] == "warn"}
    assert "the job has 2 steps" in said["moves of the reference"]
    assert "hold prompts out" in said["held out for early stopping"]
    assert "eval_every_steps has nothing to evaluate" in said["held out for evaluations"]
    _, figures = train(tmp_path / "large", make_groups(4, 1), **settings | {"epochs": 3})
    assert {f["level"] for f in figures["audit"]} == {"ok"}
