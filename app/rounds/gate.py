"""Whether a trained version may become the current one by itself: the figures, the bounds, and the verdict."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.language import _
from app.language.figures import Figure, Percent
from app.projects.refilling import GateSettings


@dataclass(frozen=True, slots=True)
class Blind:
    """What people said of the candidate beside the version it was trained from, not knowing which is which."""

    opponent: int
    """Number of the version it was compared with."""
    wanted: int
    """Comparisons that decide."""
    judged: int
    """Comparisons with at least one vote."""
    prompts: int
    """Different prompts among them."""
    wins: float
    """Comparisons won, a tie or both bad counted as half; those with several votes by their mean."""
    win_rate: float | None
    """None before the first vote."""
    low: float | None
    """Ends of its 95% interval (Wilson, over as many observations as the comparisons are worth given that those of
    one prompt resemble each other)."""
    high: float | None
    length_ratio: float | None
    """Mean length of the candidate's answers over that of the other version's, in tokens."""
    min_win_rate: float
    max_length_ratio: float


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
    blind: Blind | None = None
    """None where no blind comparisons were asked for, or they have not begun."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def judge(metrics: Mapping[str, Any], bounds: GateSettings | None = None) -> Verdict:
    """The verdict on a version by its ``metrics`` (version.json). What was not measured does not pass."""
    bounds = bounds or GateSettings()
    held_out = metrics.get("eval") or {}
    end: Mapping[str, Any] = held_out.get("end") or {}
    accuracy, kl = _number(end.get("accuracy")), _number(end.get("kl"))
    pairs = int(_number(end.get("pairs")) or 0)
    alarm = metrics.get("displacement_alarm")
    reasons: list[str] = []
    if pairs == 0 or accuracy is None:
        reasons.append(_("there are no votes on held-out prompts to judge it by"))
    elif accuracy < bounds.min_accuracy:
        reasons.append(
            _(
                "it sides with reviewers on %(accuracy)s of %(pairs)s held-out preferences, "
                "%(min_accuracy)s are needed",
                accuracy=Percent(accuracy),
                pairs=pairs,
                min_accuracy=Percent(bounds.min_accuracy),
            )
        )
    if pairs and kl is None:
        reasons.append(_("its distance from the reference could not be measured"))
    elif kl is not None and kl > bounds.max_kl:
        reasons.append(
            _(
                "it is %(kl)s nats a completion away from the reference, at most %(max_kl)s are allowed",
                kl=Figure(kl, 1),
                max_kl=f"{bounds.max_kl:g}",
            )
        )
    if alarm:
        reasons.append(str(alarm))
    return Verdict(
        passed=not reasons,
        accuracy=accuracy,
        min_accuracy=bounds.min_accuracy,
        kl=kl,
        max_kl=bounds.max_kl,
        held_out_pairs=pairs,
        displacement_alarm=str(alarm) if alarm else None,
        reasons=reasons,
    )


def judge_blind(figures: Verdict, seen: Blind, bounds: GateSettings) -> Verdict:
    """The verdict by figures and blind comparisons together.

    For one look, when all were judged: whoever looks after every vote and stops at a good moment passes versions that
    are no better more often than the interval says.
    """
    reasons = list(figures.reasons)
    if seen.win_rate is None or seen.low is None or seen.high is None:
        reasons.append(_("nobody has compared it with the current version"))
    elif seen.low < bounds.min_win_rate:
        reasons.append(
            _(
                "it won %(win_rate)s of %(judged)s blind comparisons with version %(opponent)s (95% "
                "interval %(low)s to %(high)s); the interval must not begin below %(min_win_rate)s",
                win_rate=Percent(seen.win_rate),
                judged=seen.judged,
                opponent=seen.opponent,
                low=Percent(seen.low),
                high=Percent(seen.high),
                min_win_rate=Percent(bounds.min_win_rate),
            )
        )
    if seen.length_ratio is not None and seen.length_ratio > bounds.max_length_ratio:
        reasons.append(
            _(
                "its answers are %(length_ratio)s times as long as those of version %(opponent)s, at "
                "most %(max_length_ratio)s times are allowed",
                length_ratio=Figure(seen.length_ratio, 2),
                opponent=seen.opponent,
                max_length_ratio=f"{bounds.max_length_ratio:g}",
            )
        )
    return replace(figures, passed=not reasons, reasons=reasons, blind=seen)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
