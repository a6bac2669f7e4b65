"""A version's figures as people read them, each with what it rests on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.db.tables import Version
from app.language import _
from app.language.figures import Figure, Percent

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """A share of some preferences, with a 95% interval (Wilson, over as many prompts where those are fewer)."""

    value: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of the gate."""

    passed: bool
    told: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate said of a candidate."""

    passed: bool
    checks: list[Check]


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """What the list of versions shows; None where it was not measured."""

    accuracy: Share | None
    """Held-out preferences that the version agrees with, by its log-ratios."""
    margin: float | None
    """Mean log-ratio of chosen minus rejected answers over held-out preferences, nats."""
    kl: float | None
    """Estimate of KL(reference ‖ version) per held-out answer, nats."""
    length_delta: float | None
    """Tokens that chosen answers are longer than rejected ones in all that it learned from."""
    preferences: int | None
    """Preferences it was trained on: mostly one a vote; a corrected answer makes further ones."""
    alarm: str | None
    """The trainer's warning of likelihood displacement."""
    over_budget: str | None
    """The trainer's warning that it published weights over the KL budget."""
    gate: Gate | None


def figures(version: Version) -> VersionFigures:
    """The figures that the version's round left behind; all None for an imported model."""
    metrics = version.metrics
    train, held_out = _part(metrics, "train"), _part(_part(metrics, "eval"), "end")
    accuracy, pairs = _number(held_out, "accuracy"), _number(held_out, "pairs")
    preferences = _number(train, "preferences")
    alarm, over = metrics.get("displacement_alarm"), metrics.get("over_kl_budget")
    return VersionFigures(
        accuracy=_agreement(accuracy, int(pairs), _number(held_out, "prompts"))
        if accuracy is not None and pairs
        else None,
        margin=_number(held_out, "margin"),
        kl=_number(held_out, "kl"),
        length_delta=_number(_part(metrics, "lengths"), "length_delta"),
        preferences=int(preferences) if preferences is not None else None,
        alarm=alarm if isinstance(alarm, str) else None,
        over_budget=over if isinstance(over, str) else None,
        gate=_gate(_part(metrics, "gate")),
    )


def _agreement(accuracy: float, pairs: int, prompts: float | None) -> Share:
    """Preferences on one prompt, several votes on one pair above all, count for the interval as one: the version is
    right about all of them or about none. Versions of earlier trainers do not tell of how many prompts they are.
    """
    found = wilson(accuracy, min(pairs, prompts or pairs))
    return replace(found, pairs=pairs)


def wilson(share: float, pairs: float) -> Share:
    """The 95% Wilson interval of ``share`` over ``pairs``, or over as many as they are worth; a tie counts half."""
    spread = _Z95**2 / pairs
    middle = (share + spread / 2) / (1 + spread)
    half = _Z95 / (1 + spread) * math.sqrt(share * (1 - share) / pairs + spread / (4 * pairs))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), round(pairs))


def _gate(seen: Mapping[str, Any]) -> Gate | None:
    """The verdict of ``app.rounds.gate`` as a list of conditions, each with what was measured and what was asked."""
    if "passed" not in seen:
        return None
    accuracy, pairs, kl = _number(seen, "accuracy"), _number(seen, "held_out_pairs"), _number(seen, "kl")
    least, most = _number(seen, "min_accuracy") or 0.0, _number(seen, "max_kl") or math.inf
    if accuracy is None or not pairs:
        agrees = Check(False, _("There are no votes on held-out prompts to judge it by."))
    else:
        told = _(
            "It agrees with %(accuracy)s of %(pairs)s held-out preferences; at least %(least)s are asked for.",
            accuracy=Percent(accuracy),
            pairs=Figure(round(pairs)),
            least=Percent(least),
        )
        agrees = Check(accuracy >= least, told)
    if kl is None:
        near = Check(False, _("Its distance from the reference could not be measured."))
    else:
        near = Check(
            kl <= most,
            _(
                "It is %(kl)s nats an answer from the reference; at most %(most)s are allowed.",
                kl=Figure(kl, 2),
                most=f"{most:g}",
            ),
        )
    fell = isinstance(seen.get("displacement_alarm"), str)
    told = _("Chosen answers lost likelihood: see the warning.") if fell else _("Chosen answers kept their likelihood.")
    holds = Check(not fell, told)
    checks = [agrees, near, holds, *_blind(_part(seen, "blind"))]
    return Gate(bool(seen["passed"]), checks)


def _blind(seen: Mapping[str, Any]) -> list[Check]:
    """What people said in blind comparisons, once the gate has decided."""
    rate, low, high = (_number(seen, name) for name in ("win_rate", "low", "high"))
    if rate is None or low is None or high is None:
        return []
    least, judged = _number(seen, "min_win_rate") or 0.0, _number(seen, "judged") or 0.0
    told = _(
        "It won %(rate)s of %(judged)s blind comparisons with version %(opponent)s; the 95% "
        "interval, %(low)s to %(high)s, must not begin below %(least)s.",
        rate=Percent(rate),
        judged=Figure(round(judged)),
        opponent=seen.get("opponent"),
        low=Percent(low),
        high=Percent(high),
        least=Percent(least),
    )
    checks = [Check(low >= least, told)]
    ratio, most = _number(seen, "length_ratio"), _number(seen, "max_length_ratio") or math.inf
    if ratio is not None:
        told = _(
            "Its answers there are %(ratio)s times as long; at most %(most)s times are allowed.",
            ratio=Figure(ratio, 2),
            most=f"{most:g}",
        )
        checks.append(Check(ratio <= most, told))
    return checks


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = data.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
