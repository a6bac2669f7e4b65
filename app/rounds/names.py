"""How the states of rounds are said where they stand in a text."""

from app.language import _

_STATES = {
    "queued": _("queued"),
    "preparing": _("preparing"),
    "training": _("training"),
    "publishing": _("publishing"),
    "done": _("done"),
    "failed": _("failed"),
    "cancelled": _("cancelled"),
}


def round_state(state: str) -> str:
    """A round's state in the reader's language."""
    return _STATES.get(state, state)
