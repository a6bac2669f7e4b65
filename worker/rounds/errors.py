"""How a round can end other than by being done."""


class RoundFailedError(Exception):
    """The round fails, with a stable code and a sentence that says what to do."""

    def __init__(self, code: str, message: str, log_tail: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.log_tail = log_tail


class RoundCancelledError(Exception):
    """Its admin asked for its end."""


class WorkerStoppingError(Exception):
    """The worker is being stopped; the round goes on in the next one."""
