"""The training settings that decide what runs on which machines: for those who answer for the machines to set."""

from collections.abc import Mapping
from typing import Any

from app.language import _
from app.rounds.spec.checks import SpecError
from app.rounds.spec.settings import TrainingSettings

MACHINE_SETTINGS = ("processes", "nodes", "rendezvous")


def with_stored_machines(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``asked`` for, on the machines of those ``stored``.

    Raises:
        SpecError: others were asked for; it names all of them.
    """
    kept = {name: stored.get(name, getattr(TrainingSettings(), name)) for name in MACHINE_SETTINGS}
    others = [name for name in MACHINE_SETTINGS if name in asked and asked[name] != kept[name]]
    if others:
        raise SpecError(
            others[0],
            _(
                "only site admins set %(names)s; leave out what you may not set, or have a site admin set it",
                names=", ".join(others),
            ),
        )
    return {**asked, **kept}
