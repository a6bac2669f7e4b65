"""A job's events as lines of a log."""

import sys

from worker.trainer.metrics import Event


def say(event: Event) -> None:
    """Write one line on standard output for an event worth one."""
    line = describe(event)
    if line:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def describe(event: Event) -> str:
    """One line for people; empty for events without news."""
    match event["kind"]:
        case "phase":
            return f"{event['phase']} ({event['progress']:.0%})"
        case "audit":
            return f"audit\n{event['table']}"
        case "train":
            return (
                f"step {event['step']}/{event['steps']}  loss {event['loss']:.4f}  "
                f"chosen {event['chosen_log_ratio']:+.3f}  rejected {event['rejected_log_ratio']:+.3f}  "
                f"accuracy {event['accuracy']:.2f}  kl {event['kl']:.3f}  gradient {event['grad_norm']:.3g}  "
                f"{event['tokens_per_second']:.0f} tokens/s"
            )
        case "eval":
            return (
                f"held out after step {event['step']}: loss {event['loss']:.4f}  accuracy {event['accuracy']:.2f}  "
                f"margin {event['margin']:+.3f}  chosen {event['chosen_log_ratio']:+.3f}  kl {event['kl']:.3f}  "
                f"({event['pairs']} pairs)"
            )
        case "alarm":
            return f"warning: {event['message']}"
        case "resumed":
            return f"goes on after step {event['step']} of {event['steps']}"
        case "checkpoint":
            return f"checkpoint {event['path']}"
        case "done":
            return f"done: {event['version']}"
    return ""
