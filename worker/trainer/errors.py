"""How a job fails: an exit code, and one sentence that says what happened and what to do."""

import errno
from collections.abc import Sequence

from app.rounds.spec import ExitCode, SpecError
from app.versions.manifest import ManifestError
from worker.models import ModelError


class TrainerError(Exception):
    """A failure with an exit code of its own. The message is the job's last line: one sentence, with the mend."""

    code = ExitCode.FAILED


class RefusedError(TrainerError):
    """Bad input, or training on it would be wrong."""

    code = ExitCode.REFUSED


class BadRowsError(RefusedError):
    """Rows of the data that cannot be used. ``rows`` are the first of them, each with its place and what is wrong."""

    def __init__(self, rows: Sequence[str], count: int) -> None:
        super().__init__(rows[0] if count == 1 else _told(rows, count))
        self.rows = list(rows)


class OutOfMemoryError(TrainerError):
    """The model and one batch do not fit."""

    code = ExitCode.OUT_OF_MEMORY


class OutOfDiskError(TrainerError):
    """A checkpoint, a version or the metrics could not be written."""

    code = ExitCode.OUT_OF_DISK


class NotFiniteError(TrainerError):
    """The loss or its gradient is infinite or not a number."""

    code = ExitCode.NOT_FINITE


class LockedError(TrainerError):
    """Another trainer works in the job's directory."""

    code = ExitCode.LOCKED


class StoppedError(TrainerError):
    """SIGTERM came; what was done so far is in the checkpoint."""

    code = ExitCode.STOPPED


class EndedError(TrainerError):
    """A trainer process ended with this code, and has said why."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def _told(rows: Sequence[str], count: int) -> str:
    named = "each is named above" if len(rows) == count else f"the first {len(rows)} are named above"
    return f"{count} rows cannot be used, and {named}; mend them, or remove them. The first: {rows[0]}"


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def is_out_of_disk(error: BaseException) -> bool:
    """Whether ``error``, or what caused it, is a full disk, a full quota or a file-size limit."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_SPACE:
            return True
        # safetensors reports an I/O failure as text only.
        if any(sign in str(seen) for sign in ("No space left on device", "File too large", "Disk quota exceeded")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is Python's, the CUDA allocator's or the CPU allocator's out-of-memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # oneDNN says no more than that it could not set up a product; the shapes are those of passes before.
    signs = ("can't allocate memory", "could not create a primitive", "could not create a memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "Broken pipe")


def is_lost_peer(error: BaseException) -> bool:
    """Whether ``error`` only says that another process of the job is gone; that one knows why."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST_PEER)


def explain(error: BaseException) -> tuple[ExitCode, str]:
    """The exit code of a failure, and the sentence that ends the log."""
    if isinstance(error, TrainerError):
        return error.code, str(error)
    if isinstance(error, SpecError):
        return ExitCode.REFUSED, f"the job's settings cannot be used: {error}"
    if isinstance(error, ManifestError | ModelError):
        return ExitCode.REFUSED, f"a model of the job cannot be used: {error}"
    if is_out_of_disk(error):
        return ExitCode.OUT_OF_DISK, (
            f"out of disk: {error}; checkpoints written before are whole; free space and start again"
        )
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        return ExitCode.REFUSED, (
            f"{error.filename} cannot be used: {error.strerror}; see to it that it may be read and written, or name "
            "another folder"
        )
    if is_out_of_memory(error):
        return ExitCode.OUT_OF_MEMORY, (
            f"out of memory: {error}; lower tokens_per_row or max_length, use gradient_checkpointing or method "
            "'lora', or free memory, and start again"
        )
    return ExitCode.FAILED, f"{type(error).__name__}: {error}; the lines above say where"
