"""Several trainer processes for one job: on this machine, and together with others.

``python -m worker.trainer JOB_DIR`` comes here when the job's settings ask for more than one process. It starts them
(``ranks``), says where they meet (``meeting``) and ends with the exit code and last line of the first that failed.
While it runs it keeps ``launch.json`` in the job directory, from which the other machines learn that they are wanted
(``node``).
"""

import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from app.rounds.spec import ExitCode, Spec, SpecError, TrainingSettings
from worker.trainer import meeting, ranks
from worker.trainer.lifetime import Stop, lock

LAUNCH_FILE = "launch.json"
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What the machines of one attempt have in common."""

    attempt: str
    nodes: int
    processes: int
    rendezvous: str | None
    started: float
    run: str
    """Nobody knows it who cannot read the job directory: the name under which the processes meet."""

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


def launch(
    job: Path, attempt: str, settings: TrainingSettings, stop: Stop, *, quiet: bool = False
) -> tuple[ExitCode, str]:
    """Train with all processes of all machines; returns how the job ended, and the sentence that says so.

    ``quiet`` processes tell of themselves in metrics.jsonl alone.

    Raises:
        LockedError: another trainer works in ``job``.
    """
    with lock(job):  # its first process takes it over
        failure_file(job, attempt).unlink(missing_ok=True)
        meeting.forget(job)
    made = Launch(attempt, settings.nodes, settings.processes, settings.rendezvous, time.time(), secrets.token_hex(16))
    with _announced(job, made):
        return start(job, made, stop, node_rank=0, quiet=quiet)


def start(job: Path, made: Launch, stop: Stop, *, node_rank: int, quiet: bool = False) -> tuple[ExitCode, str]:
    """Run this machine's processes to their end."""
    arguments = ["-m", "worker.trainer", str(job), "--attempt", made.attempt, "--parent", str(os.getpid())]
    arguments += ["--quiet"] if quiet else []
    with _place(job, made) as place:
        common = {meeting.VARIABLE: place} | (meeting.loopback() if made.nodes == 1 else {})
        ended = ranks.run(
            arguments,
            ranks.environments(made.processes, made.nodes, node_rank, common),
            over=lambda: stop.asked or (made.nodes > 1 and _called_off(job, made)),
        )
    if ended.well:
        return ExitCode.DONE, ""
    if stop.asked:
        return failure(job, made.attempt, "stopped by a signal", ExitCode.STOPPED)
    if ended.failed:
        return failure(job, made.attempt, *_ended(ended.failed))
    return failure(job, made.attempt, f"another machine of {job.name} has ended; its log says why", ExitCode.STOPPED)


def _place(job: Path, made: Launch) -> AbstractContextManager[str]:
    if made.rendezvous is None:
        return meeting.in_file(job)
    return nullcontext(meeting.at_port(made.rendezvous, made.run))


def _called_off(job: Path, made: Launch) -> bool:
    """Whether a process of any machine has failed, or the first machine is done with this launch."""
    if failure_file(job, made.attempt).exists():
        return True
    try:
        return bool(json.loads((job / LAUNCH_FILE).read_text(encoding="utf-8")).get("run") != made.run)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # a shared directory that is slow to tell
        return False


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
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
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
