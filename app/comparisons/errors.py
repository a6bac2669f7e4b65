"""What can go wrong between a reviewer and a comparison."""

from app.errors import ConflictError, InvalidError, NotFoundError
from app.language import _
from app.language.figures import Figure


class LeaseNotFoundError(NotFoundError):
    """The reviewer never held this comparison: unknown, another project's, or somebody else's lease."""

    code = "lease_not_found"
    title = _("That comparison is not yours")

    def __init__(self) -> None:
        super().__init__(
            _("No comparison with this id was ever handed to you."),
            mend=_("Ask for the next comparison and vote on the one you are given."),
        )


class LeaseEndedError(ConflictError):
    """The lease ran out, was voted on, or cannot be kept any longer."""

    code = "lease_ended"
    title = _("That comparison is not kept for you any more")

    def __init__(self) -> None:
        super().__init__(
            _("The time of this comparison is over, or you have judged it."),
            mend=_("Vote all the same: it counts if a place is free. Or ask for the next comparison."),
        )


class VoteFrozenError(ConflictError):
    """A training round has read the vote: it can no longer be changed or taken back."""

    code = "vote_frozen"
    title = _("This choice can no longer be changed")

    def __init__(self) -> None:
        super().__init__(
            _("A training round has already learned from this choice."),
            mend=_("Go on with the next pair; later choices weigh in the next round."),
        )


class JudgedMeanwhileError(ConflictError):
    """A page that showed no earlier choice sent one for a comparison that the reviewer has judged since."""

    code = "judged_meanwhile"
    title = _("That pair is judged already")

    def __init__(self) -> None:
        super().__init__(
            _("You have judged this pair in another tab or on another device, and that choice stands."),
            mend=_("Go on with the next pair. Under My answers you can change the earlier choice."),
        )


class VoteTooFastError(InvalidError):
    """The choice came before anybody could have read both answers, by the project's own measure."""

    code = "vote_too_fast"
    title = _("Have a longer look first")

    def __init__(self, seconds: float, needed: float) -> None:
        super().__init__(
            _(
                "The pair was before you for %(seconds)s seconds; this project asks for %(needed)s.",
                seconds=Figure(seconds, 1),
                needed=f"{needed:g}",
            ),
            mend=_("Read both answers, then choose again. The pair is still yours."),
            seconds=seconds,
            needed=needed,
        )


class VersionsKnownError(ConflictError):
    """The reviewer knows by now which version wrote what: another choice would not be blind."""

    code = "versions_known"
    title = _("You know the versions by now")

    def __init__(self) -> None:
        super().__init__(
            _("The versions were shown to you after your choice, so another one would not be blind."),
            mend=_("Take your choice back if it was a slip, and skip the pair."),
        )


class KeyReusedError(ConflictError):
    """The idempotency key was used before, for something else."""

    code = "idempotency_key_reused"
    title = _("This key already belongs to another vote")

    def __init__(self, key: str) -> None:
        super().__init__(
            _("The idempotency key %(key)s was sent before with a different vote.", key=repr(key)),
            mend=_("Use a new key for each vote, and repeat a key only with the very same vote."),
        )


class NothingToUndoError(ConflictError):
    """The reviewer has no choice that could be taken back."""

    code = "nothing_to_undo"
    title = _("Nothing to take back")

    def __init__(self) -> None:
        super().__init__(
            _("You have no choice in this project that could still be taken back."),
            mend=_("Choices can be taken back until a training round has learned from them."),
        )


class VoteInvalidError(InvalidError):
    """A vote whose parts do not fit together."""

    code = "vote_invalid"
    title = _("That vote is not valid")


class PairInvalidError(InvalidError):
    """Two completions that cannot be compared."""

    code = "pair_invalid"
    title = _("These two answers cannot be compared")


class PairExistsError(ConflictError):
    """The two completions are a comparison already, this way round or the other."""

    code = "pair_exists"
    title = _("These two answers are being compared already")


class NotFlaggedError(ConflictError):
    """An admin wants to decide about a comparison that waits for no decision."""

    code = "not_flagged"
    title = _("Nothing to decide here any more")

    def __init__(self) -> None:
        super().__init__(
            _("This pair is not flagged any more, or was never one of this project."),
            mend=_("Reload the list: somebody else may have decided already."),
        )
