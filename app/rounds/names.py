"""How the states of rounds and versions are said where they stand in a text."""

from app.language import _

_ROUND_STATES = {
    "queued": _("queued"),
    "preparing": _("preparing"),
    "training": _("training"),
    "publishing": _("publishing"),
    "done": _("done"),
    "failed": _("failed"),
    "cancelled": _("cancelled"),
}
_VERSION_STATES = {
    "current": _("current"),
    "candidate": _("candidate"),
    "retired": _("retired"),
    "rejected": _("rejected"),
}


def round_state(state: str) -> str:
    """A round's state in the reader's language."""
    return _ROUND_STATES.get(state, state)


def version_state(state: str) -> str:
    """A version's state in the reader's language."""
    return _VERSION_STATES.get(state, state)
