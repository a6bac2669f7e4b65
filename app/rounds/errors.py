"""What can stand in the way of a round or a version."""

from uuid import UUID

from app.errors import ConflictError, InvalidError
from app.rounds.spec import SpecError


class RoundAlreadyActiveError(ConflictError):
    """A project has at most one active round; the database itself sees to it."""

    code = "round_already_active"
    title = "A round is running already"

    def __init__(self, number: int | None = None, state: str | None = None) -> None:
        which = f"Round {number} is {state}." if number is not None else "Another round was just started."
        super().__init__(which, mend="Wait until it has finished, or cancel it.", number=number, state=state)


class RoundSettingsInvalidError(InvalidError):
    """The settings asked for this round alone cannot be used; ``field`` and ``reason`` say which and why."""

    code = "invalid_round"
    title = "Some settings cannot be used"

    def __init__(self, error: SpecError) -> None:
        self.field, self.reason = f"training.{error.field}", error.message
        super().__init__(
            f"{self.field}: {error.message}",
            mend="Correct the field named and send it again; no round was started.",
            errors=[{"field": self.field, "message": error.message}],
        )


class TooFewVotesError(ConflictError):
    """Fewer new votes than the project wants for a round."""

    code = "too_few_votes"
    title = "Not enough new votes"

    def __init__(self, votes: int, needed: int) -> None:
        super().__init__(
            f"{votes} new vote{'' if votes == 1 else 's'} so far, a round needs {needed}.",
            mend="Collect more votes, or lower the smallest number of votes in the project's settings. "
            "Votes on held-out prompts evaluate and do not count.",
            votes=votes,
            needed=needed,
        )


class NoCurrentVersionError(ConflictError):
    """There is no model to start from yet."""

    code = "no_current_version"
    title = "No model yet"

    def __init__(self, project_name: str) -> None:
        super().__init__(
            f"{project_name} has no current version to start from.",
            mend="Wait until the base model is imported; if that failed, its round says why and can be retried.",
        )


class AlreadyImportedError(ConflictError):
    """Version 1 is made once."""

    code = "already_imported"
    title = "The base model is imported already"


class RoundNotActiveError(ConflictError):
    """A round that has ended cannot be cancelled."""

    code = "round_not_active"
    title = "The round has ended"

    def __init__(self, number: int, state: str) -> None:
        super().__init__(f"Round {number} is {state}.", mend="Nothing is left to cancel.", state=state)


class RoundNotRetryableError(ConflictError):
    """Only a failed round can be tried again."""

    code = "round_not_retryable"
    title = "Nothing to retry"

    def __init__(self, number: int, state: str) -> None:
        super().__init__(
            f"Round {number} is {state}; only a failed round can be tried again.",
            mend="Start a new round instead.",
            state=state,
        )


class LeaseLostError(Exception):
    """The caller no longer holds the round: another worker took it over, or it ended. Nothing may be written."""

    def __init__(self, round_id: UUID, token: UUID) -> None:
        super().__init__(f"round {round_id} is not held with token {token}")


class VersionDamagedError(ConflictError):
    """A version that does not verify against its manifest never becomes the current one."""

    code = "version_damaged"
    title = "The version's files are damaged"


class VersionNotPromotableError(ConflictError):
    """Only a candidate or a retired version can become the current one."""

    code = "version_not_promotable"
    title = "This version cannot be promoted"

    def __init__(self, number: int, state: str) -> None:
        mend = "It is in use already." if state == "current" else "Train a new version, or promote another one."
        super().__init__(f"Version {number} is {state}.", mend=mend, state=state)


class VersionNotRejectableError(ConflictError):
    """Only a candidate can be rejected."""

    code = "version_not_rejectable"
    title = "This version cannot be rejected"

    def __init__(self, number: int, state: str) -> None:
        super().__init__(
            f"Version {number} is {state}, only a candidate can be rejected.", mend="Promote another version instead."
        )


class NothingToRollBackToError(ConflictError):
    """The current version was never preceded by another."""

    code = "nothing_to_roll_back_to"
    title = "There is no earlier version"
