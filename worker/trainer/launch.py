"""Several trainer processes for one job: on this machine, and together with others.

``python -m worker.trainer JOB_DIR`` comes here when the job's settings ask for more than one process. It starts them
as torchrun does and ends with the exit code and last line of the first that failed. While it runs it keeps
``launch.json`` in the job directory, from which the other machines learn that they are wanted (``node``).
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from app.rounds.spec import ExitCode, Spec, SpecError, TrainingSettings

LAUNCH_FILE = "launch.json"
BEAT_SECONDS = 5.0
MEETING_SECONDS = 900
"""How long the machines of a job wait for each other."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What the machines of one attempt have in common."""

    attempt: str
    nodes: int
    processes: int
    rendezvous: str | None
    started: float

    @classmethod
    def read(cls, job: Path) -> "Launch | None":
        """The launch under way in ``job``; None if there is none, or its launcher has stopped beating."""
        file = job / LAUNCH_FILE
        try:
            if time.time() - file.stat().st_mtime > 6 * BEAT_SECONDS:
                return None
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def among_others() -> bool:
    """Whether this is one of several trainer processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def wanted(job: Path) -> TrainingSettings | None:
    """The job's settings if they ask for more than one process and this is not one of them already."""
    if "WORLD_SIZE" in os.environ:
        return None
    try:
        settings = Spec.read(job).settings
    except SpecError:  # the trainer itself says what is wrong with it
        return None
    return settings if settings.processes * settings.nodes > 1 else None


def launch(job: Path, attempt: str, settings: TrainingSettings, *, quiet: bool = False) -> tuple[ExitCode, str]:
    """Train with all processes of all machines; returns how the job ended, and the sentence that says so.

    ``quiet`` processes tell of themselves in metrics.jsonl alone.
    """
    made = Launch(attempt, settings.nodes, settings.processes, settings.rendezvous, time.time())
    with _announced(job, made):
        return start(job, made, node_rank=0, quiet=quiet)


def start(job: Path, made: Launch, *, node_rank: int, quiet: bool = False) -> tuple[ExitCode, str]:
    """Run this machine's processes to their end."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    failure_file(job, made.attempt).unlink(missing_ok=True)
    config = LaunchConfig(
        min_nodes=made.nodes,
        max_nodes=made.nodes,
        nproc_per_node=made.processes,
        run_id=f"{job.name}-{made.attempt}-{made.started:.0f}",
        role="trainer",
        max_restarts=0,  # whoever started the job starts it again, from its checkpoint
    )
    if made.rendezvous is None:
        config.rdzv_backend, config.rdzv_endpoint = "c10d", "localhost:0"
    else:
        config.rdzv_backend, config.rdzv_endpoint = "static", made.rendezvous
        config.rdzv_configs = {"rank": node_rank, "timeout": MEETING_SECONDS}
    command = ["-m", "worker.trainer", str(job), "--attempt", made.attempt, "--parent", str(os.getpid())]
    command += ["--quiet"] if quiet else []
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        return failure(job, made.attempt, *_ended([child.exitcode for child in error.failures.values()]))
    except SignalException:
        return failure(job, made.attempt, "stopped by a signal", ExitCode.STOPPED)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds when machines do not meet
        where = f" at {made.rendezvous}; start 'hone node' on the others" if made.nodes > 1 else ""
        return failure(job, made.attempt, f"the {made.nodes} x {made.processes} processes did not meet{where}: {error}")
    return ExitCode.DONE, ""


def _ended(statuses: list[int]) -> tuple[str, ExitCode]:
    """What to say of processes that ended with these statuses and said nothing."""
    signals = [signal.Signals(-status).name for status in statuses if status < 0]
    if signals:
        text = (
            f"a trainer process was ended by {signals[0]}, as a system that runs out of memory does; the checkpoints "
            "are kept and the next start goes on from the newest"
        )
        return text, ExitCode.STOPPED
    return f"a trainer process ended with status {statuses[0]}; the lines above say where", ExitCode.FAILED


def failure_file(job: Path, attempt: str) -> Path:
    """Where the first process of an attempt that fails says why."""
    return job / f"failure-{attempt}.json"


def record_failure(job: Path, attempt: str, code: ExitCode, sentence: str) -> bool:
    """Say why this process fails, unless another was first; whether it was this one."""
    try:
        with failure_file(job, attempt).open("x", encoding="utf-8") as file:
            json.dump({"code": int(code), "sentence": sentence}, file)
    except OSError:  # also a full disk: the processes' own output has the sentence
        return False
    return True


def failure(job: Path, attempt: str, otherwise: str, code: ExitCode = ExitCode.FAILED) -> tuple[ExitCode, str]:
    """How an attempt failed: what its first failing process said, else ``code`` and ``otherwise``."""
    file = failure_file(job, attempt)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return code, " ".join(otherwise.split())
    file.unlink(missing_ok=True)
    return ExitCode(data["code"]), str(data["sentence"])


@contextmanager
def _announced(job: Path, made: Launch) -> Iterator[None]:
    """``launch.json`` while the block lasts, touched as long as this process is well."""
    file, staged, over = job / LAUNCH_FILE, job / f".{LAUNCH_FILE}.new", threading.Event()
    staged.write_text(json.dumps(asdict(made)), encoding="utf-8")
    staged.replace(file)

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            os.utime(file)

    thread = threading.Thread(target=beat, name="launch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        file.unlink(missing_ok=True)
