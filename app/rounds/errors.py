"""What can stand in the way of a round or a version."""

from collections.abc import Sequence
from uuid import UUID

from app.errors import ConflictError, InvalidError
from app.language import _, _n, listed
from app.language.texts import Message
from app.rounds.names import round_state
from app.rounds.spec import SpecError
from app.versions.names import version_state


class RoundAlreadyActiveError(ConflictError):
    """A project has at most one active round; the database itself sees to it."""

    code = "round_already_active"
    title = _("A round is running already")

    def __init__(self, number: int | None = None, state: str | None = None) -> None:
        which = (
            _("Round %(number)s is %(state)s.", number=number, state=round_state(state))
            if number is not None and state is not None
            else _("Another round was just started.")
        )
        super().__init__(which, mend=_("Wait until it has finished, or cancel it."), number=number, state=state)


class RoundSettingsInvalidError(InvalidError):
    """The settings asked for this round alone cannot be used; ``errors`` says which, and why."""

    code = "invalid_round"
    title = _("Some settings cannot be used")

    def __init__(self, errors: Sequence[SpecError]) -> None:
        self.errors = {f"training.{error.field}": error.message for error in errors}
        super().__init__(
            listed(
                Message("%(field)s: %(message)s", {"field": name, "message": why}) for name, why in self.errors.items()
            ),
            mend=_("Correct the fields named and send it again; no round was started."),
            errors=[{"field": name, "message": why} for name, why in self.errors.items()],
        )


class TooFewVotesError(ConflictError):
    """Fewer new votes than the project wants for a round."""

    code = "too_few_votes"
    title = _("Not enough new votes")

    def __init__(self, votes: int, needed: int) -> None:
        super().__init__(
            _n(
                "%(n)s new vote so far, a round needs %(needed)s.",
                "%(n)s new votes so far, a round needs %(needed)s.",
                votes,
                needed=needed,
            ),
            mend=_(
                "Collect more votes, or lower the smallest number of votes in the project's "
                "settings. Votes on held-out prompts evaluate and do not count."
            ),
            votes=votes,
            needed=needed,
        )


class NoCurrentVersionError(ConflictError):
    """There is no model to start from yet."""

    code = "no_current_version"
    title = _("No model yet")

    def __init__(self, project_name: str) -> None:
        super().__init__(
            _("%(project_name)s has no current version to start from.", project_name=project_name),
            mend=_("Wait until the base model is imported; if that failed, its round says why and can be retried."),
        )


class AlreadyImportedError(ConflictError):
    """Version 1 is made once."""

    code = "already_imported"
    title = _("The base model is imported already")


class RoundNotActiveError(ConflictError):
    """A round that has ended cannot be cancelled."""

    code = "round_not_active"
    title = _("The round has ended")

    def __init__(self, number: int, state: str) -> None:
        super().__init__(
            _("Round %(number)s is %(state)s.", number=number, state=round_state(state)),
            mend=_("Nothing is left to cancel."),
            state=state,
        )


class RoundNotRetryableError(ConflictError):
    """Only a failed round can be tried again."""

    code = "round_not_retryable"
    title = _("Nothing to retry")

    def __init__(self, number: int, state: str) -> None:
        super().__init__(
            _(
                "Round %(number)s is %(state)s; only a failed round can be tried again.",
                number=number,
                state=round_state(state),
            ),
            mend=_("Start a new round instead."),
            state=state,
        )


class VotesChangedError(ConflictError):
    """A failed round is not tried again on votes that are not what they were."""

    code = "votes_changed"
    title = _("Its votes have changed")

    def __init__(self, number: int, changed: int) -> None:
        super().__init__(
            _n(
                "%(n)s vote that round %(number)s read does not count any more as it did then: it was changed, taken "
                "back or set aside.",
                "%(n)s votes that round %(number)s read do not count any more as they did then: they were changed, "
                "taken back or set aside.",
                changed,
                number=number,
            ),
            mend=_("Start again with its settings: a new round reads the votes as they are now."),
            votes=changed,
        )


class LeaseLostError(Exception):
    """The caller no longer holds the round: another worker took it over, or it ended. Nothing may be written."""

    def __init__(self, round_id: UUID, token: UUID) -> None:
        super().__init__(f"round {round_id} is not held with token {token}")


class VersionDamagedError(ConflictError):
    """A version that does not verify against its manifest never becomes the current one."""

    code = "version_damaged"
    title = _("The version's files are damaged")


class VersionNotPromotableError(ConflictError):
    """Only a candidate or a retired version can become the current one."""

    code = "version_not_promotable"
    title = _("This version cannot be promoted")

    def __init__(self, number: int, state: str) -> None:
        mend = _("It is in use already.") if state == "current" else _("Train a new version, or promote another one.")
        super().__init__(
            _("Version %(number)s is %(state)s.", number=number, state=version_state(state)), mend=mend, state=state
        )


class VersionNotRejectableError(ConflictError):
    """Only a candidate can be rejected."""

    code = "version_not_rejectable"
    title = _("This version cannot be rejected")

    def __init__(self, number: int, state: str) -> None:
        super().__init__(
            _(
                "Version %(number)s is %(state)s, only a candidate can be rejected.",
                number=number,
                state=version_state(state),
            ),
            mend=_("Promote another version instead."),
        )


class NothingToRollBackToError(ConflictError):
    """The current version was never preceded by another."""

    code = "nothing_to_roll_back_to"
    title = _("There is no earlier version")
