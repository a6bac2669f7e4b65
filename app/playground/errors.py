"""What can go wrong in the playground."""

from app.errors import ConflictError, NotFoundError
from app.language import _


class TurnNotFoundError(NotFoundError):
    """No such turn of this person's in this project."""

    code = "turn_not_found"
    title = _("There is no such question of yours")


class NoModelError(ConflictError):
    """Nobody is there to answer."""

    code = "no_current_version"
    title = _("There is no model yet")


class TurnTakenError(ConflictError):
    """The answers are being written for another window, or were."""

    code = "turn_taken"
    title = _("These answers are written elsewhere")


class ChosenError(ConflictError):
    """The versions are known by now, so another choice would not be blind."""

    code = "already_chosen"
    title = _("You have chosen already")


class TurnLostError(ConflictError):
    """The answers were never whole, so there is nothing to choose between."""

    code = "turn_lost"
    title = _("The answers were cut off")


class NotYetError(ConflictError):
    """The conversation goes on from an answer that is not chosen, or not whole."""

    code = "not_yet"
    title = _("Not yet")
