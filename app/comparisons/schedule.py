"""When a reviewer's next check is due: one of each kind somewhere in every so many pairs, where nobody can foretell.

Pure. A share of 5 % is one check in each block of twenty pairs, its place drawn anew for each block by the server and
kept in the reviewer's standing. So short stretches hold the share too, and what a reviewer could count tells nothing:
neither a fixed distance nor anything that follows from ids.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

KINDS = ("gold", "attention", "repeat")

Schedule = dict[str, Any]
"""Kind → {"percent": the share it was drawn for, "block": where its block begins, "at": when the check is due}."""


def due(schedule: Mapping[str, Any], shares: Mapping[str, float], handed: int) -> str | None:
    """The kind of check that the reviewer's next pair should be, if any; of several the one that waits longest.

    Args:
        shares: kind → percent, those above 0.
        handed: pairs the reviewer was handed before.
    """
    waiting = [
        (schedule[kind]["at"], kind)
        for kind in KINDS
        if kind in shares and kind in schedule and schedule[kind]["at"] <= handed
    ]
    return min(waiting)[1] if waiting else None


def drawn(schedule: Mapping[str, Any], shares: Mapping[str, float], handed: int, rng: Random) -> Schedule:
    """The schedule with a place drawn for every share that is new or was changed; kinds without a share go."""
    return {
        kind: schedule[kind]
        if kind in schedule and schedule[kind]["percent"] == percent
        else _place(percent, handed, rng)
        for kind, percent in shares.items()
    }


def served(schedule: Mapping[str, Any], kind: str, handed: int, rng: Random) -> Schedule:
    """The schedule after a check of ``kind`` was due: its next one is somewhere in the block that follows.

    A check that there was none of is not made up for: it would only bunch those that come later.
    """
    entry = schedule[kind]
    block = _length(entry["percent"])
    start = entry["block"] + block * max(1, (handed - entry["block"]) // block)
    return {**schedule, kind: _place(entry["percent"], start, rng)}


def _place(percent: float, start: int, rng: Random) -> dict[str, Any]:
    return {"percent": percent, "block": start, "at": start + rng.randrange(_length(percent))}


def _length(percent: float) -> int:
    """Pairs in a block that holds one check."""
    return max(2, round(100 / percent))
