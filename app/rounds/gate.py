"""Whether a trained version may become the current one by itself: the figures, the bounds, and the verdict."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MIN_HELD_OUT_ACCURACY = 0.5
"""Share of held-out preferences on which the version must side with the reviewer; at 0.5 it learned nothing."""

MAX_KL_NATS = 50.0
"""Bound on KL(reference ‖ policy), nats a completion: further away, the model has drifted rather than learned."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate saw and said; kept with the version."""

    passed: bool
    accuracy: float | None
    min_accuracy: float
    kl: float | None
    max_kl: float
    held_out_pairs: int
    displacement_alarm: str | None
    reasons: list[str]
    """Why it was refused, in words; empty when it passed."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def judge(
    metrics: Mapping[str, Any], *, min_accuracy: float = MIN_HELD_OUT_ACCURACY, max_kl: float = MAX_KL_NATS
) -> Verdict:
    """The verdict on a version with these ``metrics`` (version.json). What was not measured does not pass."""
    held_out = metrics.get("eval") or {}
    end: Mapping[str, Any] = held_out.get("end") or {}
    accuracy, kl = _number(end.get("accuracy")), _number(end.get("kl"))
    pairs = int(_number(end.get("pairs")) or 0)
    alarm = metrics.get("displacement_alarm")
    reasons = []
    if pairs == 0 or accuracy is None:
        reasons.append("there are no votes on held-out prompts to judge it by")
    elif accuracy < min_accuracy:
        reasons.append(
            f"it sides with reviewers on {accuracy:.0%} of {pairs} held-out preferences, {min_accuracy:.0%} are needed"
        )
    if pairs and kl is None:
        reasons.append("its distance from the reference could not be measured")
    elif kl is not None and kl > max_kl:
        reasons.append(f"it is {kl:.1f} nats a completion away from the reference, at most {max_kl:g} are allowed")
    if alarm:
        reasons.append(str(alarm))
    return Verdict(
        passed=not reasons,
        accuracy=accuracy,
        min_accuracy=min_accuracy,
        kl=kl,
        max_kl=max_kl,
        held_out_pairs=pairs,
        displacement_alarm=str(alarm) if alarm else None,
        reasons=reasons,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
