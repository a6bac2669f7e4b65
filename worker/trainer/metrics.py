"""What is measured of a batch of preferences, and the file it goes to."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.trainer.losses import Pairs

Event = dict[str, Any]
"""One line of metrics.jsonl: 'kind' is phase, audit, resumed, train, eval, alarm, checkpoint or done; 'progress' is
the share of the job's work that is done, 0 to 1."""

Listener = Callable[[Event], None]

TIE_NATS = 1e-4
"""|Δ| that is rounding, and counts as half right."""


@dataclass(slots=True)
class Tally:
    """Weighted sums over preferences; any split into batches gives the same means."""

    sums: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    pairs: int = 0

    @torch.no_grad()
    def add(self, losses: Tensor, pairs: Pairs, weight: Tensor) -> None:
        """Count a batch: ``losses`` and ``weight`` are (batch,)."""
        delta = pairs.delta
        columns = {
            "loss": losses,
            "chosen_log_ratio": pairs.chosen.log_ratio,
            "rejected_log_ratio": pairs.rejected.log_ratio,
            "margin": delta,
            "accuracy": (delta > TIE_NATS).float() + 0.5 * (delta.abs() <= TIE_NATS).float(),
            "chosen_logp_per_token": pairs.chosen.policy_logp_sum / pairs.chosen.length,
            "kl": 0.5 * (_kl(pairs.chosen) + _kl(pairs.rejected)),
            "chosen_tokens": pairs.chosen.length,
            "rejected_tokens": pairs.rejected.length,
        }
        w = weight.double().cpu()
        for name, column in columns.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(column.double().cpu() @ w)
        self.weight += float(w.sum())
        self.pairs += len(losses)

    def means(self) -> dict[str, float]:
        """Weighted means in nats (tokens for the lengths), and how many pairs they are of.

        'kl' estimates KL(reference ‖ policy) per completion as Σ_t (r − 1 − log r) with r = π_θ/π_ref at each sampled
        token: never negative, and exact in expectation where the completions were sampled from the reference.
        """
        return {name: value / self.weight for name, value in self.sums.items()} | {"pairs": self.pairs}


def _kl(side: Any) -> Tensor:
    """(batch,), nats a completion."""
    log_ratio = side.policy_token_logp - side.reference_token_logp  # 0 beyond the end, which adds nothing
    return (torch.expm1(log_ratio) - log_ratio).sum(1)  # type: ignore[no-any-return]


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


def displacement_alarm(recent: Sequence[float], held_out: float | None, bound_nats: float) -> str | None:
    """What to tell if chosen answers become less likely than under the reference; None while they do not.

    Args:
        recent: mean log-ratios of chosen completions in the last training steps, nats; judged once there are
            ``DISPLACEMENT_WINDOW_STEPS``.
        held_out: the same over held-out preferences, where just evaluated.
        bound_nats: how far below zero the mean may fall.
    """
    means = {"of held-out preferences": held_out}
    if len(recent) >= DISPLACEMENT_WINDOW_STEPS:
        means[f"of the last {DISPLACEMENT_WINDOW_STEPS} steps"] = sum(recent) / len(recent)
    for which, mean in means.items():
        if mean is not None and mean < -bound_nats:
            return (
                f"likelihood displacement: the chosen answers {which} are {-mean:.2f} nats less likely than under the "
                f"reference (alarm at {bound_nats:g}); train with DPOP (loss 'dpop') or add an NLL term, "
                "or lower the learning rate"
            )
    return None
