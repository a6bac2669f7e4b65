"""The trainer processes of one machine: started together, watched, and ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

GRACE_SECONDS = 30.0
"""Processes that are asked to end get this long."""
POLL_SECONDS = 0.1


@dataclass(slots=True)
class Ended:
    """How the processes came to their end."""

    failed: list[int] = field(default_factory=list)
    """Exit statuses other than 0 of those that ended by themselves, in that order."""
    stopped: int = 0
    """How many had to be ended."""

    @property
    def well(self) -> bool:
        """Whether every one of them did all that it had to do."""
        return not self.failed and not self.stopped


def environments(processes: int, nodes: int, node: int, common: Mapping[str, str]) -> list[dict[str, str]]:
    """What each process of machine ``node`` finds in its environment, beside ``common``; as of torchrun."""
    return [
        {
            **common,
            "RANK": str(node * processes + local),
            "WORLD_SIZE": str(nodes * processes),
            "LOCAL_RANK": str(local),
            "LOCAL_WORLD_SIZE": str(processes),
        }
        for local in range(processes)
    ]


def run(arguments: Sequence[str], environments: Sequence[Mapping[str, str]], over: Callable[[], bool]) -> Ended:
    """Run Python with ``arguments`` once in each of ``environments`` until all have ended.

    When one fails, or ``over`` says so, the others get SIGTERM, and SIGKILL after ``GRACE_SECONDS``. They are in
    sessions of their own: Ctrl-C reaches the caller alone, who passes it on.
    """
    ended, told = Ended(), 0.0
    running: list[subprocess.Popen[bytes]] = []
    try:
        for environment in environments:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=os.environ | environment, start_new_session=True
            )
            running.append(process)
        while running:
            for process in [process for process in running if process.poll() is not None]:
                running.remove(process)
                _count(ended, process.returncode, told=bool(told))
            if not told and running and (ended.failed or over()):
                told = time.monotonic()
                for process in running:
                    process.terminate()
            elif told and time.monotonic() - told > GRACE_SECONDS:
                break
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
    ended.stopped += len(running)
    return ended


def _count(ended: Ended, status: int, *, told: bool) -> None:
    if told and status == -signal.SIGTERM:
        ended.stopped += 1
    elif status != 0:
        ended.failed.append(status)
