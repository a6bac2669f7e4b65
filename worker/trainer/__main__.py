"""``python -m worker.trainer JOB_DIR --attempt TOKEN``: run a job; the exit code and the last line say how it ended.

Exit codes are ``app.rounds.spec.ExitCode``. torch is imported after the lock is held and the parent is watched.
Settings that ask for several processes make this one their launcher; ``torchrun -m worker.trainer JOB_DIR`` works, too.
"""

import argparse
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

from app.rounds.spec import SPEC_FILE, ExitCode
from worker.trainer.errors import RefusedError, TrainerError, explain, is_lost_peer
from worker.trainer.launch import among_others, launch, record_failure, wanted
from worker.trainer.lifetime import STARTER_PID, Stop, die_with_parent, lock
from worker.trainer.memory import heap, set_environment


def main() -> int:
    """Parse, hold the lock, run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.trainer", description="Run one training job.")
    parser.add_argument("job", type=Path, metavar="JOB_DIR", help="directory with spec.json and groups.jsonl")
    parser.add_argument("--attempt", default="0", help="token of this attempt; it writes into attempt-TOKEN only")
    parser.add_argument("--parent", type=int, default=STARTER_PID, help="process id of the starter (known to it)")
    parser.add_argument("--quiet", action="store_true", help="tell of steps in metrics.jsonl only")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    stop = Stop()
    stop.install()
    try:
        _check(arguments.job, arguments.attempt)
        settings = wanted(arguments.job)
        if settings is not None:
            code, sentence = launch(arguments.job, arguments.attempt, settings, stop)
            sys.stderr.write(f"{sentence}\n" if sentence else "")
            return int(code)
        _run(arguments.job, arguments.attempt, stop, quiet=arguments.quiet)
    except Exception as error:  # noqa: BLE001 - every failure ends as an exit code and a sentence
        code, sentence = explain(error)
        sentence = " ".join(sentence.split())
        first = not among_others() or (
            not is_lost_peer(error) and record_failure(arguments.job, arguments.attempt, code, sentence)
        )
        if first and (code is ExitCode.FAILED or not isinstance(error, TrainerError)):
            traceback.print_exc()
        if first:  # the others fail because this one did
            sys.stderr.write(f"{sentence}\n")
        return int(code)
    return int(ExitCode.DONE)


def _check(job: Path, token: str) -> None:
    if not token or any(not (character.isalnum() or character in "-_") for character in token):
        raise RefusedError(f"attempt token {token!r} is no plain name; use letters, digits, '-' and '_'")
    if not (job / SPEC_FILE).is_file():
        raise RefusedError(f"{job} holds no {SPEC_FILE}; give the directory of a job")


def _run(job: Path, token: str, stop: Stop, *, quiet: bool) -> None:
    set_environment()
    heap().keep_freed()
    main = os.environ.get("RANK", "0") == "0"
    with lock(job) if main else nullcontext():
        from worker.trainer.console import say
        from worker.trainer.distributed import joined
        from worker.trainer.job import run

        with joined(stop) as crew:
            run(job, token, stop, (lambda _event: None) if quiet else say, crew)


def _end(status: int) -> None:
    """End this process. One of several does it at once: everything is written, and taking its process groups apart
    while others still hold theirs aborts now and then (torch 2.13, Gloo: a thread is destroyed while it runs)."""
    if among_others():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _end(main())
