"""The command line of every process of Hone, in one place: ``hone up`` and docker-compose.yml start the same ones."""

import os
import sys
from pathlib import Path

PYTHON = sys.executable
MOST_WEB_PROCESSES = 4
"""Each takes about 150 MB; more are for the operator to ask for."""


def web(host: str, port: int, processes: int = 1) -> list[str]:
    """The web server. It stops within 10 s of SIGTERM, whatever its clients do.

    Several ``processes`` share the port and, in Postgres, all that is true; their parent replaces one that dies.
    """
    command = [PYTHON, "-m", "uvicorn", "app.main:create_app", "--factory", "--host", host, "--port", str(port),
               "--no-server-header", "--timeout-graceful-shutdown", "10"]  # fmt: skip
    if processes > 1:  # the parent takes a process that does not answer it for hung; ours may just be short of a core
        command += ["--workers", str(processes), "--timeout-worker-healthcheck", "60"]
    return command


def web_processes(wanted: int) -> int:
    """How many, where ``wanted`` leaves it open (0): a Python process uses one core at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted or min(cores, MOST_WEB_PROCESSES)


def worker() -> list[str]:
    """The Celery worker."""
    # No banner among the lines of the log. Workers need to know nothing of each other: what they share is in Postgres.
    # That saves a second at the start.
    return [PYTHON, "-m", "celery", "--quiet", "-A", "worker.celery_app", "worker", "--loglevel", "INFO",
            "--without-gossip", "--without-mingle"]  # fmt: skip


def beat(schedule: Path) -> list[str]:
    """Beat, which sends the ticks: a process of its own, so that whoever runs it sees it die. One for all workers."""
    return [PYTHON, "-m", "celery", "--quiet", "-A", "worker.celery_app", "beat", "--loglevel", "INFO",
            "--schedule", str(schedule)]  # fmt: skip


def engine(versions: Path, host: str, port: int) -> list[str]:
    """The sampling engine. Its secret comes by environment (HONE_ENGINE_SECRET), where `ps` does not show it."""
    return [PYTHON, "-m", "worker.engine", "--versions", str(versions), "--host", host, "--port", str(port)]


def migrate() -> list[str]:
    """Bring the database to the newest revision."""
    return [PYTHON, "-m", "app.cli", "migrate"]
