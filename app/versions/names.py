"""How the states of versions are said where they stand in a text."""

from app.language import _

_STATES = {
    "current": _("current"),
    "candidate": _("candidate"),
    "retired": _("retired"),
    "rejected": _("rejected"),
}


def version_state(state: str) -> str:
    """A version's state in the reader's language."""
    return _STATES.get(state, state)
