"""A job's events as lines of a log."""

import sys
from collections.abc import Sequence

from worker.trainer.metrics import Event

_TRAIN = (
    ("loss {:.4f}", "loss"),
    ("chosen {:+.3f}", "chosen_log_ratio"),
    ("rejected {:+.3f}", "rejected_log_ratio"),
    ("accuracy {:.2f}", "accuracy"),
    ("kl {:.3f}", "kl"),
    ("length {:+.1f}", "length_delta"),
    ("gradient {:.3g}", "grad_norm"),
    ("{:.0f} tokens/s", "tokens_per_second"),
)
_EVAL = (
    ("loss {:.4f}", "loss"),
    ("comparable {:.4f}", "comparable_loss"),
    ("accuracy {:.2f}", "accuracy"),
    ("margin {:+.3f}", "margin"),
    ("chosen {:+.3f}", "chosen_log_ratio"),
    ("kl {:.3f}", "kl"),
)


def say(event: Event) -> None:
    """Write one line on standard output for an event worth one."""
    line = describe(event)
    if line:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


_LINES = {
    "phase": "{phase} ({progress:.0%})",
    "audit": "audit\n{table}",
    "early_stop": "stops after step {step}: {reason}",
    "alarm": "warning: {message}",
    "over_budget": "warning: {message}",
    "resumed": "goes on after step {step} of {steps}",
    "checkpoint": "checkpoint {path}",
    "reference": "the reference moved towards the policy after step {step}",
    "done": "done: {version}",
}


def describe(event: Event) -> str:
    """One line for people; empty for events without news."""
    match event["kind"]:
        case "train":
            return f"step {event['step']}/{event['steps']}  {_figures(event, _TRAIN)}"
        case "eval":
            return f"held out after step {event['step']}: {_figures(event, _EVAL)}  ({event['judgements']} judgements)"
        case "best":
            start = event["start_loss"]
            above = f", above the {start:.4f} of the start" if event["loss"] > start else ""
            return f"lowest held-out loss so far: {event['loss']:.4f} after step {event['step']}{above}"
    return _LINES.get(event["kind"], "").format(**event)


def _figures(event: Event, figures: Sequence[tuple[str, str]]) -> str:
    """Those of the figures that the event has: a step of ties alone has no accuracy."""
    return "  ".join(text.format(event[name]) for text, name in figures if name in event)
