"""What the subprocess's exit status means for the round."""

import signal
from pathlib import Path

from app.rounds.spec import ExitCode
from worker.rounds.errors import RoundFailedError
from worker.rounds.folder import log_tail

_CODES = {
    ExitCode.FAILED: "trainer_failed",
    ExitCode.REFUSED: "refused",
    ExitCode.OUT_OF_MEMORY: "out_of_memory",
    ExitCode.OUT_OF_DISK: "out_of_disk",
    ExitCode.NOT_FINITE: "not_finite",
    ExitCode.LOCKED: "locked",
}
_MENDS = {
    ExitCode.FAILED: "Look at the end of its log, then retry the round.",
    ExitCode.REFUSED: "Mend it and retry the round, or start again with other settings.",
    ExitCode.OUT_OF_MEMORY: "Start again with lower tokens_per_row, gradient_checkpointing, or LoRA.",
    ExitCode.OUT_OF_DISK: "Free some space on the data directory's disk, then retry the round.",
    ExitCode.NOT_FINITE: "Start again with a lower learning rate.",
    ExitCode.LOCKED: "Stop that trainer, then retry the round.",
}


def explain(status: int, log: Path, *, what: str) -> RoundFailedError:
    """The failure that an exit status other than 0 stands for; the last line of the log is its message.

    Args:
        status: exit code, or minus the signal that ended the process.
        what: who ended: 'The trainer'.
    """
    tail = log_tail(log)
    if status < 0:
        return RoundFailedError(
            "killed",
            f"{what} was ended by {_signal_name(-status)}, again and again. A system that runs out of memory does "
            "that: lower tokens_per_row, or give it more memory, then retry the round.",
            tail,
        )
    try:
        code = ExitCode(status)
    except ValueError:
        code = ExitCode.FAILED
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    said = lines[-1] if lines else f"{what} ended with status {status} and said nothing"
    said = said[0].upper() + said[1:]
    mend = _MENDS.get(code, _MENDS[ExitCode.FAILED])
    return RoundFailedError(_CODES.get(code, "trainer_failed"), f"{said.rstrip('.')}. {mend}", tail)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
