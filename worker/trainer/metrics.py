"""What is measured of a batch of preferences, and the file it goes to."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.trainer.losses import Labels, Pairs, Side

Event = dict[str, Any]
"""One line of metrics.jsonl: 'kind' is phase, audit, resumed, train, eval, best, alarm, early_stop, over_budget,
reference, checkpoint or done; 'progress' is the share of the job's work that is done, 0 to 1."""

Listener = Callable[[Event], None]

TIE_NATS = 1e-4
"""|Δ| that is rounding, and counts as half right."""


Columns = Mapping[str, tuple[Tensor, Tensor]]
"""Figures by name: values and weights, each (n,), for the figure's own n."""


@dataclass(slots=True)
class Tally:
    """Weighted sums of figures; any split into batches gives the same means."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    judgements: int = 0

    @torch.no_grad()
    def add(self, columns: Columns, judgements: int) -> None:
        """Count a batch of so many judgements."""
        for name, (values, weights) in columns.items():
            w = weights.double()
            self.sums[name] = self.sums.get(name, 0.0) + float(values.double() @ w)
            self.weights[name] = self.weights.get(name, 0.0) + float(w.sum())
        self.judgements += judgements

    def merge(self, other: "Tally") -> None:
        """Count in what another process counted."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.weights[name] = self.weights.get(name, 0.0) + other.weights[name]
        self.judgements += other.judgements

    def means(self) -> dict[str, float]:
        """Weighted means in nats (tokens for the lengths), and how many 'judgements' they are of.

        A figure that nothing was counted of is left out.
        """
        means = {name: value / self.weights[name] for name, value in self.sums.items() if self.weights[name] > 0}
        if "margin" not in means and {"chosen_log_ratio", "rejected_log_ratio"} <= means.keys():
            means["margin"] = means["chosen_log_ratio"] - means["rejected_log_ratio"]
        if {"chosen_tokens", "rejected_tokens"} <= means.keys():
            means["length_delta"] = means["chosen_tokens"] - means["rejected_tokens"]
        return means | {"judgements": self.judgements}


def pair_columns(pairs: Pairs, weight: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Figures of preferences. Ties have neither a chosen nor a rejected side, and count for the KL alone."""
    delta = pairs.delta
    choice = weight if pairs.tie is None else torch.where(pairs.tie, 0.0, weight)
    columns = {
        "chosen_log_ratio": (pairs.chosen.log_ratio, choice),
        "rejected_log_ratio": (pairs.rejected.log_ratio, choice),
        "margin": (delta, choice),
        "accuracy": (_right(delta), choice),
        "chosen_logp_per_token": (pairs.chosen.mean_logp, choice),
        "kl": (0.5 * (_kl(pairs.chosen) + _kl(pairs.rejected)), weight),
        "chosen_tokens": (pairs.chosen.length, choice),
        "rejected_tokens": (pairs.rejected.length, choice),
    }
    if pairs.tie is not None:
        columns["tie_distance"] = (delta.abs(), torch.where(pairs.tie, weight, 0.0))
    return columns


def label_columns(labels: Labels, weight: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Figures of single answers: the good ones stand as chosen, the bad ones as rejected.

    'accuracy' is the share on the right side of z0.
    """
    side, ratio = labels.completion, labels.completion.log_ratio
    good, bad = torch.where(labels.desirable, weight, 0.0), torch.where(labels.desirable, 0.0, weight)
    ahead = ratio - labels.baseline
    return {
        "chosen_log_ratio": (ratio, good),
        "rejected_log_ratio": (ratio, bad),
        "accuracy": (_right(torch.where(labels.desirable, ahead, -ahead)), weight),
        "chosen_logp_per_token": (side.mean_logp, good),
        "kl": (_kl(side), weight),
        "chosen_tokens": (side.length, good),
        "rejected_tokens": (side.length, bad),
        "baseline": (labels.baseline.expand_as(weight), weight),
    }


def _right(ahead: Tensor) -> Tensor:
    """(n,): 1 where positive, ½ within rounding of 0."""
    return (ahead > TIE_NATS).float() + 0.5 * (ahead.abs() <= TIE_NATS).float()


def _kl(side: Side) -> Tensor:
    """(n,), nats a completion: estimates KL(reference ‖ policy) as Σ_t (r − 1 − log r), r = π_θ/π_ref at each token.

    Never negative, and exact in expectation where the completions were sampled from the reference.
    """
    log_ratio = side.policy_token_logp - side.reference_token_logp  # 0 beyond the end, which adds nothing
    return (torch.expm1(log_ratio) - log_ratio).sum(1)


class MetricsFile:
    """metrics.jsonl: a line an event, whole lines only."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, event: Event) -> None:
        """Append ``event`` with the time; numbers that are not finite become null."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds")} | _finite(event))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind(self, step: int) -> None:
        """Drop what a killed attempt wrote about steps after ``step``, and a last line cut short."""
        if not self._file.is_file():
            return
        kept = []
        for line in self._file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("step", 0) <= step:
                kept.append(line)
        staged = self._file.with_suffix(".new")
        staged.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        staged.replace(self._file)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


DISPLACEMENT_WINDOW_STEPS = 10


_MENDS = {
    "apo_down": "loss 'apo_down' lowers them on purpose: raise displacement_alarm_nats, or use 'apo_zero' instead",
    "dpop": "raise dpop_lambda, add an NLL term instead (loss 'dpo_nll'), or lower the learning rate",
    "mpo": "raise generation_weight, train with DPOP instead (loss 'dpop'), or lower the learning rate",
    "dpo_nll": "raise nll_alpha, train with DPOP instead (loss 'dpop'), or lower the learning rate",
}
_MEND = "train with DPOP (loss 'dpop') or add an NLL term (loss 'dpo_nll'), or lower the learning rate"


def displacement_alarm(recent: Sequence[float], held_out: float | None, bound_nats: float, loss: str) -> str | None:
    """What to tell if chosen answers become less likely than under the reference; None while they do not.

    Args:
        recent: mean log-ratios of chosen completions in the last training steps, nats; judged once there are
            ``DISPLACEMENT_WINDOW_STEPS``.
        held_out: the same over held-out preferences, where just evaluated.
        bound_nats: how far below zero the mean may fall.
        loss: the one in use; another is named, or its own setting.
    """
    means = {"of held-out preferences": held_out}
    if len(recent) >= DISPLACEMENT_WINDOW_STEPS:
        means[f"of the last {DISPLACEMENT_WINDOW_STEPS} steps"] = sum(recent) / len(recent)
    for which, mean in means.items():
        if mean is not None and mean < -bound_nats:
            return (
                f"likelihood displacement: the chosen answers {which} are {-mean:.2f} nats less likely than under the "
                f"reference (alarm at {bound_nats:g}); {_MENDS.get(loss, _MEND)}"
            )
    return None
