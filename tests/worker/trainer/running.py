"""Running trainers as the product does: real processes, ended by their own process id."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.waiting import until

ROOT = Path(__file__).parents[3]
SECONDS = 120.0


def start(job: Path, attempt: str = "a", **options: Any) -> subprocess.Popen[str]:
    """``python -m worker.trainer`` on a job, one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker.trainer", str(job), "--attempt", attempt],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and last line of standard error."""
    _, errors = process.communicate(timeout=SECONDS)
    lines = errors.strip().splitlines()
    return process.returncode, lines[-1] if lines else ""


def events(job: Path, kind: str) -> list[dict[str, Any]]:
    """Whole lines of a kind in metrics.jsonl."""
    file = job / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = file.read_text().split("\n")[:-1]
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Look often enough to catch a trainer between two steps."""
    until(happened, SECONDS, what, every=0.005)
