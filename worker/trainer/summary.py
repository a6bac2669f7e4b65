"""The table that ends ``hone train``: what the version is, and what training did to it."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from app.versions.manifest import VersionInfo
from worker.trainer.stopping import comparable_loss

_FIGURES = {
    "loss": "loss",
    "comparable_loss": "comparable loss",
    "accuracy": "accuracy",
    "margin": "margin, nats",
    "chosen_log_ratio": "chosen log-ratio, nats",
    "rejected_log_ratio": "rejected log-ratio, nats",
    "kl": "KL estimate, nats",
    "length_delta": "length delta, tokens",
}


def table(info: VersionInfo) -> Group:
    """The figures of a version's version.json, and the facts of its training."""
    metrics = info.metrics
    last_step, held_out = metrics["last_step"], metrics.get("eval") or {}
    made = Table(box=box.SIMPLE, title=_title(info), title_justify="left", title_style="bold")
    made.add_column("figure", no_wrap=True)
    for title in ("held out, before", "held out, published", "last step"):
        made.add_column(title, justify="right")
    for name, label in _FIGURES.items():
        columns = [held_out.get("start") or {}, held_out.get("end") or {}, last_step]
        if any(name in column for column in columns):
            made.add_row(label, *(_number(column, name) for column in columns))
    facts = Table.grid(padding=(0, 2, 0, 1))
    for label, value in _facts(info):
        facts.add_row(Text(label), Text(value))
    return Group(made, facts)


def _title(info: VersionInfo) -> str:
    settings = info.spec["settings"]
    kind = "a full model" if info.kind == "full" else "an adapter"
    return f"{settings['loss']}, {settings['method']}: {kind}"


def _facts(info: VersionInfo) -> list[tuple[str, str]]:
    metrics, train = info.metrics, info.metrics["train"]
    facts = [("preferences learned from", f"{train['preferences']:,} in {train['groups']:,} groups")]
    if train["judgements"] != train["preferences"]:
        facts.append(("judgements made of them", f"{train['judgements']:,}"))
    if metrics["lengths"]:
        facts.append(("chosen longer by", f"{metrics['lengths']['length_delta']:+,.1f} tokens, over all of them"))
    facts += [
        ("steps", f"{train['steps']:,} of {train.get('steps_planned', train['steps']):,}"),
        ("tokens", f"{train['tokens']:,}"),
        ("training time", f"{train['seconds']:,.1f} s"),
        ("tokens a second", f"{train['tokens'] / max(train['seconds'], 1e-9):,.0f}"),
    ]
    if metrics.get("published_step") is not None:
        facts.append(("weights published", f"after step {metrics['published_step']:,}"))
    if worse := _worse(metrics.get("eval") or {}):
        facts.append(("worse than before", worse))
    if metrics.get("over_kl_budget"):
        facts.append(("over the KL budget", str(metrics["over_kl_budget"])))
    if metrics.get("stopped_early"):
        facts.append(("stopped early", str(metrics["stopped_early"])))
    if metrics.get("displacement_alarm"):
        facts.append(("alarm", str(metrics["displacement_alarm"])))
    return facts


def _worse(held_out: Mapping[str, Any]) -> str:
    """What to tell of published weights whose held-out loss is above that of the start; empty where it is not."""
    if not held_out:
        return ""
    before, after = (comparable_loss(held_out[when]) for when in ("start", "end"))
    if not after > before:
        return ""
    return (
        f"the held-out loss rose from {before:.4f} to {after:.4f}; lower the learning rate, train for fewer steps, or "
        "collect more preferences"
    )


def _number(column: Mapping[str, Any], name: str) -> str:
    value = column.get(name)
    return "" if value is None else f"{value:.4f}" if name.endswith("loss") else f"{value:.3f}"
