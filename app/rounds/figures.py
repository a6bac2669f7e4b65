"""What a round's page shows of the trainer's figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.db.tables import Round, RoundEvent
from app.rounds.charts import Chart, Point, Series, line_chart

STEPS = ("queued", "preparing", "training", "publishing", "done")


@dataclass(frozen=True, slots=True)
class Figures:
    """Charts, and the trainer's own warning if it gave one."""

    charts: list[Chart]
    alarm: str | None
    steps_done: int
    steps_total: int


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

    def both(name: str) -> list[Series]:
        return [Series("training", 1, _points(train, name)), Series("held out", 2, _points(held_out, name))]

    ratios = [
        Series("chosen", 1, _points(train, "chosen_log_ratio")),
        Series("rejected", 3, _points(train, "rejected_log_ratio")),
    ]
    charts = [
        line_chart("Loss", both("loss")),
        line_chart("Agreement with the votes", both("accuracy")),
        line_chart("Margin", both("margin"), unit="nats"),
        line_chart("Log-ratio to the reference", ratios, unit="nats"),
    ]
    last = train[-1] if train else {}
    return Figures(
        charts=[chart for chart in charts if chart is not None],
        alarm=alarms[-1] if alarms else None,
        steps_done=int(last.get("step", 0)),
        steps_total=int(last.get("steps", 0)),
    )


def _points(lines: Sequence[dict[str, Any]], name: str) -> list[Point]:
    return [(float(line["step"]), float(line[name])) for line in lines if line.get(name) is not None]
