"""What can go wrong between an admin and a reviewer's standing."""

from app.errors import ConflictError, InvalidError, NotFoundError
from app.language import _


class NoReviewerError(NotFoundError):
    """Nobody of that id reviews here."""

    code = "no_reviewer"
    title = _("No such reviewer")


class AlreadyPausedError(ConflictError):
    """The reviewer is in quarantine."""

    code = "reviewer_paused"
    title = _("Already in quarantine")


class NotPausedError(ConflictError):
    """The reviewer is not in quarantine."""

    code = "reviewer_not_paused"
    title = _("Not in quarantine")


class ControlInvalidError(InvalidError):
    """A pair that cannot serve as one with a known answer."""

    code = "check_invalid"
    title = _("This pair cannot be used")


class ControlExistsError(ConflictError):
    """The pair has a known answer already."""

    code = "check_exists"
    title = _("This pair is used already")


class NoControlError(NotFoundError):
    """No pair with a known answer has this id here."""

    code = "no_check"
    title = _("No such pair")
