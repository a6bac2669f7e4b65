"""The command line of every process of Hone, in one place: ``hone up`` and docker-compose.yml start the same ones."""

import sys
from pathlib import Path

PYTHON = sys.executable


def web(host: str, port: int) -> list[str]:
    """The web server. It stops within 10 s of SIGTERM, whatever its clients do."""
    return [PYTHON, "-m", "uvicorn", "app.main:create_app", "--factory", "--host", host, "--port", str(port),
            "--no-server-header", "--timeout-graceful-shutdown", "10"]  # fmt: skip


def worker(beat_schedule: Path | None = None) -> list[str]:
    """The Celery worker; with a schedule file, beat runs in it (one machine only: two beats would tick twice)."""
    # Workers need to know nothing of each other: what they share is in Postgres. That saves a second at the start.
    command = [PYTHON, "-m", "celery", "-A", "worker.celery_app", "worker", "--loglevel", "INFO",
               "--without-gossip", "--without-mingle"]  # fmt: skip
    if beat_schedule is not None:
        command += ["--beat", "--schedule", str(beat_schedule)]
    return command


def beat(schedule: Path) -> list[str]:
    """Beat alone, for several workers."""
    return [PYTHON, "-m", "celery", "-A", "worker.celery_app", "beat", "--loglevel", "INFO",
            "--schedule", str(schedule)]  # fmt: skip


def engine(versions: Path, host: str, port: int) -> list[str]:
    """The sampling engine. Its secret comes by environment (HONE_ENGINE_SECRET), where `ps` does not show it."""
    return [PYTHON, "-m", "worker.engine", "--versions", str(versions), "--host", host, "--port", str(port)]


def migrate() -> list[str]:
    """Bring the database to the newest revision."""
    return [PYTHON, "-m", "app.cli", "migrate"]
