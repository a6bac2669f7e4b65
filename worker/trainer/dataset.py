"""Preference files of this field as groups: TRL's rows (``rows``), JSON lines or Parquet; or our own format.

Rows of equal prompts become one group, so that the prompt is computed once. Texts are tokenised here, once.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from worker.trainer.audit import Finding
from worker.trainer.data import Completion, Group, Label, Preference, parse_group
from worker.trainer.errors import BadRowsError, RefusedError
from worker.trainer.files import named, rows_of
from worker.trainer.reading import Reading
from worker.trainer.renaming import Renaming
from worker.trainer.rows import Judged, Reader

DEFAULT_EVAL_FRACTION = 0.1
BAD_ROWS = 20
"""How many rows that cannot be used are named; the others are counted."""


@dataclass(slots=True)
class _Prompt:
    """What the rows of one prompt add up to."""

    ids: list[int]
    whole_ids: list[int]
    """Before answers cut it."""
    split: Literal["train", "eval"]
    completions: list[Completion] = field(default_factory=list)
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Of the completions, by their ids."""
    preferences: list[Preference] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def load_groups(
    files: Sequence[Path],
    tokenizer: Any,
    eos_ids: frozenset[int],
    eval_fraction: float | None = None,
    eval_files: Sequence[Path] = (),
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Group], list[Finding]]:
    """The preferences in ``files`` as groups, and what the audit should tell of how they were read.

    Held out is what stands in ``eval_files``, and of ``files`` no row is trained on that has a prompt of theirs.
    Without them about ``eval_fraction`` (None: ``DEFAULT_EVAL_FRACTION``) of the prompts of rows are held out, by their
    hash. A path may be a pattern (``train-*.parquet``), which names several files. ``columns`` has the data's names
    of columns by ours, where they differ.

    Raises:
        BadRowsError: rows are wrong; the first ``BAD_ROWS`` are named by file, line and field.
        RefusedError: a file cannot be read, or there is nothing in it.
    """
    collected = _Collected(Reader(tokenizer, eos_ids, Reading()), Renaming(columns or {}))
    fraction = DEFAULT_EVAL_FRACTION if eval_fraction is None else eval_fraction
    if eval_files:
        collected.read(eval_files, 1.0)
        held_out = collected.prompts.values()
        collected.reserved = {tuple(ids) for prompt in held_out for ids in (prompt.ids, prompt.whole_ids)}
    collected.read(files, 0.0 if eval_files else fraction)
    collected.refuse_bad()
    groups = collected.groups()
    found = collected.reader.reading.findings()
    if eval_files:
        return groups, [*found, *_kept_apart(collected)]
    return groups, [*found, *_held_out(list(collected.prompts.values()), eval_fraction, fraction)]


@dataclass(slots=True)
class _Collected:
    """What was read so far."""

    reader: Reader
    renaming: Renaming
    prompts: dict[tuple[int, ...], _Prompt] = field(default_factory=dict)
    own: list[Group] = field(default_factory=list)
    """Groups as they stood in a file."""
    seen: dict[str, str] = field(default_factory=dict)
    """Where each of them stood, by its id."""
    reserved: set[tuple[int, ...]] = field(default_factory=set)
    """Prompts of the held-out files, as they are and whole: what other files have of them is left out."""
    left_out: int = 0
    """How many rows that were."""
    bad: list[str] = field(default_factory=list)
    """The first rows that cannot be used, each with its place and what is wrong with it."""
    bad_rows: int = 0
    """How many there are in all."""

    def read(self, files: Sequence[Path], eval_fraction: float) -> None:
        """Read ``files``; at a fraction of 1 all of them are held out. Raises RefusedError, also if nothing is left.

        Rows that cannot be used are kept for ``refuse_bad``.
        """
        before, rows = len(self.own) + len(self.prompts), self.reader.reading.rows
        for file in named(files):
            self._add(file, eval_fraction)
        if len(self.own) + len(self.prompts) == before and not self.bad_rows:
            rows = self.reader.reading.rows - rows
            why = "no rows"
            if rows:
                why = f"{rows} rows, and in each chosen and rejected are the same"
            if self.left_out:
                why = f"{rows} rows, all of prompts that eval_data holds out"
            raise RefusedError(f"{', '.join(map(str, files))} holds {why}; write one for each preference")

    def _add(self, file: Path, eval_fraction: float) -> None:
        for where, row in rows_of(file):
            try:
                if isinstance(row, ValueError):
                    raise row
                self._add_row(where, row, eval_fraction)
            except (ValueError, TypeError) as error:
                self.bad_rows += 1
                if len(self.bad) < BAD_ROWS:
                    more = self.renaming.absent(row) if isinstance(row, dict) else ""
                    self.bad.append(f"{where}: {error}{more}")

    def _add_row(self, where: str, row: dict[str, Any], eval_fraction: float) -> None:
        """Raises ValueError or TypeError for a row that cannot be used."""
        row = self.renaming(where, row)
        if "prompt_ids" in row:
            group = _group(row)
            if group.id in self.seen:
                raise ValueError(f"group id {group.id!r} was on {self.seen[group.id]} already; ids are unique")
            self.seen[group.id] = where
            self.own.append(replace(group, split="eval") if eval_fraction == 1 else group)
        elif (judged := self.reader.read(row)) is not None:
            if not self.reserved.isdisjoint(map(tuple, (judged.prompt_ids, judged.whole_prompt_ids))):
                self.left_out += 1
            else:
                _add(self.prompts, judged, self.reader.eos_ids, eval_fraction)

    def refuse_bad(self) -> None:
        """Raises RefusedError for columns that no row has, BadRowsError for rows that cannot be used."""
        self.renaming.refuse_unseen()
        if self.bad_rows:
            raise BadRowsError(self.bad, self.bad_rows)

    def groups(self) -> list[Group]:
        """Those that stood in files, then one for each prompt of rows."""
        return self.own + [
            Group(_digest(p.ids)[:16], p.split, p.ids, p.completions, p.preferences, p.labels, [])
            for p in self.prompts.values()
        ]


def _kept_apart(collected: _Collected) -> list[Finding]:
    """Rows that were to be trained on, and whose prompts are held out."""
    if not collected.left_out:
        return []
    note = "left out of training, so that held-out figures are of prompts that were not trained on"
    return [Finding("rows of prompts that eval_data holds out", str(collected.left_out), "warn", note)]


def _held_out(prompts: list[_Prompt], asked: float | None, fraction: float) -> list[Finding]:
    """Whether the share that was asked for, or is the usual one, came to nothing."""
    if not prompts:
        note = "eval_fraction means nothing for groups, which say by themselves what is held out; leave it out"
        return [] if asked is None else [Finding("groups held out by eval_fraction", "0", "warn", note)]
    if fraction == 0 or any(prompt.split == "eval" for prompt in prompts):
        return []
    note = "there will be no held-out figures; raise eval_fraction, or set it to 0 if none are wanted"
    return [Finding("prompts held out", f"0 of {len(prompts)}, at a share of {fraction:g}", "warn", note)]


def _group(row: dict[str, Any]) -> Group:
    if "completions" not in row:
        raise ValueError(
            "has prompt_ids and no completions, as rows that TRL has tokenised; give their texts (prompt, chosen and "
            "rejected) without the columns of ids, or Hone's groups"
        )
    return parse_group(row)


def _add(
    prompts: dict[tuple[int, ...], _Prompt], judged: Judged, eos_ids: frozenset[int], eval_fraction: float
) -> None:
    """Count one row in."""
    key = tuple(judged.prompt_ids)
    if key not in prompts:
        # Rows of one text are in one split, also where their answers cut it in several places.
        share = int(_digest(judged.whole_prompt_ids)[:8], 16) / 0x1_0000_0000
        prompts[key] = _Prompt(judged.prompt_ids, judged.whole_prompt_ids, "eval" if share < eval_fraction else "train")
    prompt = prompts[key]
    places = []
    for answer in judged.answers:
        place = prompt.places.setdefault(tuple(answer.ids), len(prompt.completions))
        if place == len(prompt.completions):
            end = "eos" if answer.ids[-1] in eos_ids else "human"
            prompt.completions.append(Completion(f"c{place}", answer.ids, answer.text, end))
        places.append(place)
    if judged.desirable is not None:
        prompt.labels.append(Label(places[0], judged.desirable, judged.weight))
        return
    name = f"p{len(prompt.preferences)}"
    prompt.preferences.append(Preference(name, places[0], places[1], "a", judged.margin, judged.weight))


def _digest(ids: list[int]) -> str:
    return hashlib.sha256(repr(ids).encode()).hexdigest()
