"""A Hone installation that lives as long as one simulation: ``hone up --demo`` on a temporary data directory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.local import demo, stack
from app.local.postgres_files import remove_files

READY_SECONDS = 180.0
STOP_SECONDS = 30.0
ADMIN_SCOPES = (
    "projects:read", "prompts:read", "votes:write", "rounds:read", "rounds:write", "versions:read", "versions:write",
    "chat",
)  # fmt: skip


class StackError(RuntimeError):
    """The throw-away installation did not come up; the message holds the end of its output."""


UNLIMITED = {"HONE_CHAT_REQUESTS_PER_MINUTE": "1000000", "HONE_CHAT_TOKENS_PER_DAY": "0"}
"""Versions are judged through the door for API clients, hundreds of answers at once."""


@contextmanager
def throwaway_stack(console: Console) -> Iterator[tuple[str, list[str]]]:
    """Start one, yield its address and tokens (the admin's, then the reviewer's), stop it and delete its data.

    Raises:
        StackError: it ended, or was not ready within three minutes.
    """
    with tempfile.TemporaryDirectory(prefix="hone-simulate-") as folder:
        data = Path(folder) / "data"
        output = Path(folder) / "output.log"
        # Only an installation of its own: servers that the caller's environment names are left alone.
        foreign = {"HONE_DATABASE_URL", "HONE_REDIS_URL", "HONE_ENGINE_URL", "HONE_ENGINE_SECRET", "HONE_DATA"}
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        environment |= UNLIMITED
        with output.open("wb") as log, console.status("starting a throw-away Hone"):
            process = subprocess.Popen(
                [*_hone(), "up", "--demo", "--data", str(data), "--port", "0"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        try:
            with console.status("starting a throw-away Hone: database, engine, worker, web"):
                url = _wait_until_ready(process, data, output)
            tokens = [
                _token(data, demo.ADMIN, ADMIN_SCOPES, environment),
                _token(data, demo.REVIEWER, ("votes:write",), environment),
            ]
            yield url, tokens
        finally:
            _stop(process)
            remove_files(data)


def _hone() -> list[str]:
    return [sys.executable, "-m", "app.cli"]


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, output: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StackError(f"`hone up` ended with status {process.returncode}:\n{_tail(output)}")
        running = stack.running(data)
        if running is not None and running.ready:
            return running.url
        time.sleep(0.1)
    raise StackError(f"`hone up` was not ready within {READY_SECONDS:.0f} s:\n{_tail(output)}")


def _token(data: Path, email: str, scopes: tuple[str, ...], environment: dict[str, str]) -> str:
    scope_options = [part for scope in scopes for part in ("--scope", scope)]
    made = subprocess.run(
        [*_hone(), "token", "create", "--data", str(data), "--user", email, *scope_options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if made.returncode:
        raise StackError(f"no token for {email}: {made.stderr.strip()}")
    return made.stdout.strip().splitlines()[-1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does; if that does not end it in time, for good."""
    if process.poll() is None:
        process.terminate()  # a script that runs in the background ignores SIGINT, and so do its children
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(output: Path) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-15:])
