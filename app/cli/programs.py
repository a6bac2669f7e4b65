"""Commands that hand their arguments on to a program of the worker, which may import torch; this process never does."""

import signal
import subprocess
import sys
from typing import Any

import typer

from app.local.process import die_with_parent

PASS_THROUGH: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Every argument, ``--help`` too, belongs to the other program."""


def train(context: typer.Context) -> None:
    """Train on preferences from a file, without server or database: `hone train --help`."""
    sys.exit(run("hone train", "worker.trainer.cli", context.args))


def merge(context: typer.Context) -> None:
    """Make a whole model out of an adapter and its base: `hone merge --help`."""
    sys.exit(run("hone merge", "worker.trainer.merge", context.args))


def node(context: typer.Context) -> None:
    """Take part in training as a further machine: `hone node --help`."""
    sys.exit(run("hone node", "worker.trainer.node", context.args))


def simulate(context: typer.Context) -> None:
    """Watch the loop close: simulated reviewers vote, rounds run, win rates rise. `hone simulate --help`."""
    sys.exit(run("hone simulate", "worker.demo.simulate", context.args))


START = "import runpy, sys; sys.argv[0] = {name!r}; runpy.run_module({module!r}, run_name='__main__')"
"""As ``python -m`` does, under a name that its help can show."""


def run(name: str, module: str, arguments: list[str]) -> int:
    """Run a program with this terminal; Ctrl-C reaches it, and this process waits for it. Returns its status.

    If this process is killed, the program is asked to stop: a trainer keeps a checkpoint and lets go of its folder.
    """
    command = [sys.executable, "-c", START.format(name=name, module=module), *arguments]
    process = subprocess.Popen(command, preexec_fn=die_with_parent(signal.SIGTERM))  # noqa: PLW1509
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has the same terminal and decides itself
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    return status if status >= 0 else 128 - status
