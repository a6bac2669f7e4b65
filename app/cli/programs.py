"""Commands that hand their arguments on to a program of the worker, which may import torch; this process never does."""

import signal
import subprocess
import sys
from typing import Any

import typer

PASS_THROUGH: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Every argument, ``--help`` too, belongs to the other program."""


def train(context: typer.Context) -> None:
    """Train on preferences from a file, without server or database: `hone train --help`."""
    sys.exit(run("worker.trainer.cli", context.args))


def simulate(context: typer.Context) -> None:
    """Watch the loop close: simulated reviewers vote, rounds run, win rates rise. `hone simulate --help`."""
    sys.exit(run("worker.demo.simulate", context.args))


def run(module: str, arguments: list[str]) -> int:
    """Run ``python -m module`` with this terminal; Ctrl-C reaches it, and this process waits. Returns its status."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has the same terminal and decides itself
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    return status if status >= 0 else 128 - status
