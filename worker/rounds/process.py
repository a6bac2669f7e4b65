"""The subprocess of a round: started, followed, stopped, and found again when its worker is gone."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from app.local.process import spawn
from app.rounds.errors import LeaseLostError
from worker.rounds.errors import RoundCancelledError, RoundFailedError, WorkerStoppingError
from worker.rounds.folder import read_process
from worker.rounds.keeper import Keeper

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
CHECKPOINT_SECONDS = 8.0
"""A stopped trainer gets this long to write a checkpoint; the worker itself is given ten seconds."""

_DEATH_SECONDS = 10.0

_SECRETS = ("HONE_DATABASE_URL", "HONE_REDIS_URL", "HONE_ENGINE_SECRET", "HONE_ADMIN_PASSWORD")

Follow = Callable[[], bool]
"""Called at every poll; True when the process gave a sign of life."""


def run_process(
    command: Sequence[str],
    *,
    log: Path,
    record: Path,
    keeper: Keeper,
    follow: Follow,
    silence_seconds: float,
    deadline: float,
) -> int:
    """Run ``command`` until it ends, its output appended to ``log``; returns its exit status (negative: the signal).

    Args:
        record: where its process id is kept, for ``end_survivor``.
        silence_seconds: without a sign of life for so long, it hangs.
        deadline: ``time.monotonic`` by which it must have ended.

    Raises:
        RoundFailedError: it hung, or took too long; it was ended.
        LeaseLostError, RoundCancelledError, WorkerStoppingError: it was ended because the keeper said so.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    with log.open("ab") as output:
        process = spawn(command, env=environment, output=output, death_signal=signal.SIGKILL)
    try:
        _write_record(record, process.pid)
        return _follow(process, keeper, follow, silence_seconds, deadline)
    finally:
        _kill(process)
        record.unlink(missing_ok=True)


def end_survivor(record: Path) -> bool:
    """Kill the process that an earlier worker on this machine started, if it lives; whether it did."""
    data = read_process(record)
    if data is None or data.get("host") != socket.gethostname() or not isinstance(data.get("pid"), int):
        return False
    pid = int(str(data["pid"]))
    try:
        process = psutil.Process(pid)
        if process.create_time() != data.get("created"):
            return False  # the number belongs to somebody else by now
        logger.warning("killing the trainer (process %d) of a worker that lost its round", pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _wait_dead(process)
    except psutil.NoSuchProcess:
        return False
    finally:
        record.unlink(missing_ok=True)
    return True


def _wait_dead(process: psutil.Process) -> None:
    """Until it runs no more; its parent may be unable to reap it. A process in the disk's hands may take its time."""
    deadline = time.monotonic() + _DEATH_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)


def _follow(
    process: subprocess.Popen[bytes], keeper: Keeper, follow: Follow, silence_seconds: float, deadline: float
) -> int:
    alive = time.monotonic()
    while True:
        status = process.poll()
        now = time.monotonic()
        if follow():
            alive = now
        if status is not None:
            return status
        try:
            keeper.check()
        except LeaseLostError:
            _kill(process)
            raise
        except (RoundCancelledError, WorkerStoppingError):
            _ask(process)
            raise
        if now - alive > silence_seconds:
            raise RoundFailedError(
                "trainer_hung",
                f"The trainer gave no sign of life for {silence_seconds:g} seconds and was ended. Retry the round: it "
                "goes on from its last checkpoint. If single steps take that long, raise HONE_TRAINER_SILENCE_SECONDS.",
            )
        if now > deadline:
            raise RoundFailedError(
                "deadline",
                "The round took longer than HONE_ROUND_LIMIT_SECONDS allows and was ended. Retry it to go on from its "
                "last checkpoint, or raise the limit.",
            )
        time.sleep(POLL_SECONDS)


def _ask(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and time for a checkpoint."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CHECKPOINT_SECONDS)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, whoever is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write_record(record: Path, pid: int) -> None:
    try:
        created = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it ended at once
        return
    staged = record.with_name(f".{record.name}.new")
    staged.write_text(json.dumps({"pid": pid, "created": created, "host": socket.gethostname()}))
    staged.replace(record)
