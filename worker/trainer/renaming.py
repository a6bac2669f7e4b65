"""Columns of a data set that are called otherwise than in TRL's rows: ``--columns prompt=instruction,chosen=good``."""

from collections.abc import Mapping
from typing import Any

from app.rounds.spec import SpecError
from worker.trainer.errors import RefusedError

READ = ("prompt", "chosen", "rejected", "completion", "label", "margin", "weight", "tools", "chat_template_kwargs")
"""The columns that are read of a row with texts."""


def columns_of(given: Any) -> dict[str, str]:
    """The data set's name of a column by ours, out of a mapping or of ``ours=theirs`` with commas between.

    Raises:
        SpecError: it is neither, or names a column that is not read, or one of theirs twice.
    """
    pairs: list[tuple[Any, Any]]
    if isinstance(given, str):
        halves = [item.partition("=") for item in given.split(",")]
        pairs = [(ours.strip(), theirs.strip()) for ours, _, theirs in halves]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        raise SpecError("columns", f"{given!r} is no mapping; write prompt=THEIRS,chosen=THEIRS or {{prompt: THEIRS}}")
    names: dict[str, str] = {}
    for ours, theirs in pairs:
        if ours not in READ:
            raise SpecError("columns", f"{ours!r} is no column that is read; those are {', '.join(READ)}")
        if not isinstance(theirs, str) or not theirs:
            raise SpecError("columns", f"{ours} is given {theirs!r}; write {ours}=NAME, with the data set's own name")
        if ours in names or theirs in names.values():
            twice = ours if ours in names else theirs
            raise SpecError("columns", f"{twice!r} is named twice; give each column one name")
        names[ours] = theirs
    return names


class Renaming:
    """Gives the columns of rows our names; remembers which of theirs were ever there."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._never = set(names.values())
        self._first: tuple[str, list[str]] | None = None

    def __call__(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        """``row`` under our names. A column of theirs takes the place of one that has our name already."""
        if not self._names:
            return row
        if self._first is None:
            self._first = (where, list(row))
        self._never -= row.keys()
        there = {ours: theirs for ours, theirs in self._names.items() if theirs in row}
        kept = {name: value for name, value in row.items() if name not in there and name not in there.values()}
        return {ours: row[theirs] for ours, theirs in there.items()} | kept

    def absent(self, row: dict[str, Any]) -> str:
        """What to add to what is wrong with a row as it stands in the file: the names it has not; else nothing."""
        absent = [f"{theirs!r} for {ours}" for ours, theirs in self._names.items() if theirs not in row]
        if not absent:
            return ""
        return f" (columns names {', '.join(absent)}, which this row has not; it has {', '.join(row)})"

    def refuse_unseen(self) -> None:
        """Raises RefusedError for a column that no row had."""
        if self._first is None or not self._never:
            return
        where, columns = self._first
        wanted = [f"{theirs!r} for {ours}" for ours, theirs in self._names.items() if theirs in self._never]
        raise RefusedError(f"columns names {', '.join(wanted)}, and no row has it; {where} has {', '.join(columns)}")
