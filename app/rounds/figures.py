"""What a round's page shows of the trainer's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.db.tables import Round, RoundEvent
from app.language import _
from app.rounds.charts import Chart, Point, Series, line_chart

STEPS = ("queued", "preparing", "training", "publishing", "done")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the audit that the trainer makes before the first step."""

    name: str
    value: str
    level: str
    """'ok', 'warn' or 'refuse'."""
    note: str
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the lowest held-out loss after training began."""

    step: int
    loss: float
    before: float | None
    """The held-out loss before the first step."""

    @property
    def worse(self) -> bool:
        """Whether training only ever raised the held-out loss, by as much as is shown."""
        return self.before is not None and round(self.loss, 4) > round(self.before, 4)


@dataclass(frozen=True, slots=True)
class Figures:
    """Charts, the audit, and what the trainer had to say."""

    charts: list[Chart]
    audit: list[Check]
    alarm: str | None
    stopped: str | None
    """Why training ended before its last step."""
    over_budget: str | None
    """That the published weights are over the KL budget, and by how much."""
    best: Best | None
    steps_done: int
    steps_total: int

    @property
    def to_look_at(self) -> int:
        """Checks that are not in order."""
        return sum(check.level != "ok" for check in self.audit)

    @property
    def refused(self) -> bool:
        """Whether a check stopped the round."""
        return any(check.level == "refuse" for check in self.audit)


def reached(round_: Round, events: Sequence[RoundEvent]) -> str:
    """The step a round is in, or was in when it ended."""
    if round_.state in STEPS:
        return round_.state
    ends = [event.from_state for event in events if event.to_state == round_.state]
    return ends[-1] if ends and ends[-1] in STEPS else STEPS[0]


def figures(metrics: Sequence[dict[str, Any]]) -> Figures:
    """The figures in the lines of a metrics.jsonl."""
    train = [line for line in metrics if line.get("kind") == "train"]
    held_out = [line for line in metrics if line.get("kind") == "eval"]
    alarms = [str(line["message"]) for line in metrics if line.get("kind") == "alarm"]
    audits = [line["findings"] for line in metrics if line.get("kind") == "audit"]
    stops = [str(line["reason"]) for line in metrics if line.get("kind") == "early_stop"]
    over = [str(line["message"]) for line in metrics if line.get("kind") == "over_budget"]
    bests = [line for line in metrics if line.get("kind") == "best" and line.get("loss") is not None]

    def both(name: str) -> list[Series]:
        return [Series(_("training"), 1, _points(train, name)), Series(_("held out"), 2, _points(held_out, name))]

    ratios = [
        Series(_("chosen"), 1, _points(train, "chosen_log_ratio")),
        Series(_("rejected"), 3, _points(train, "rejected_log_ratio")),
    ]
    charts = [
        line_chart(_("Loss"), both("loss")),
        line_chart(_("Comparable loss"), both("comparable_loss")),
        line_chart(_("Agreement with the votes"), both("accuracy")),
        line_chart(_("Margin"), both("margin"), unit=_("nats")),
        line_chart(_("Log-ratio to the reference"), ratios, unit=_("nats")),
        line_chart(_("Distance from the reference (KL)"), both("kl"), unit=_("nats an answer")),
        line_chart(_("Chosen answers longer by"), both("length_delta"), unit=_("tokens")),
    ]
    last = train[-1] if train else {}
    return Figures(
        charts=[chart for chart in charts if chart is not None],
        audit=[Check(item["name"], item["value"], item["level"], item["note"]) for item in audits[-1]]
        if audits
        else [],
        alarm=alarms[-1] if alarms else None,
        stopped=stops[-1] if stops else None,
        over_budget=over[-1] if over else None,
        best=_best(bests[-1], held_out) if bests else None,
        steps_done=int(last.get("step", 0)),
        steps_total=int(last.get("steps", 0)),
    )


def _best(line: Mapping[str, Any], held_out: Sequence[Mapping[str, Any]]) -> Best:
    losses = [(point.get("step"), point.get("comparable_loss", point.get("loss"))) for point in held_out]
    before = [loss for step, loss in losses if step == 0 and loss is not None]
    return Best(int(line["step"]), float(line["loss"]), float(before[0]) if before else None)


def _points(lines: Sequence[dict[str, Any]], name: str) -> list[Point]:
    return [(float(line["step"]), float(line[name])) for line in lines if line.get(name) is not None]
