"""Packing: many groups in few rows, each prompt once.

A *shared* row holds whole groups, ``[prompt | c1 | … | cK][prompt | …]``: positions restart at |prompt| for each
completion, and a mask keeps completions and groups apart (``masks``). *Tiles* are the same in one row without any
padding, where attention goes from tile to tile instead of masking (``blocks``). A *plain* row holds one prompt with
one completion. All predict a completion's first token from the prompt's last position.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

ForwardPath = Literal["tiles", "shared", "plain"]

FLEX_BLOCK = 128
"""Rows for FlexAttention are padded to a multiple of this many tokens."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is packed: a prompt and the completions whose log-probs are wanted."""

    prompt_ids: list[int]
    completions: list[list[int]]

    @property
    def shared_length(self) -> int:
        """Tokens of the group's shared row."""
        return len(self.prompt_ids) + sum(map(len, self.completions))

    @property
    def plain_length(self) -> int:
        """Tokens of the longest plain row."""
        return len(self.prompt_ids) + max(map(len, self.completions))

    @property
    def plain_total(self) -> int:
        """Tokens of all plain rows together."""
        return sum(len(self.prompt_ids) + len(completion) for completion in self.completions)


@dataclass(frozen=True, slots=True)
class Plan:
    """One forward pass: which units, in which rows."""

    rows: list[list[int]]
    """Indices into the list of units; in plain rows each unit stands alone and is spread over K rows."""
    length: int
    """Tokens of every row, padding included."""

    @property
    def units(self) -> list[int]:
        """Indices of the units, in the order of their completions in the batch."""
        return [unit for row in self.rows for unit in row]


@dataclass(frozen=True, slots=True)
class Batch:
    """The tensors of one forward pass. B rows of T tokens, N completion tokens, C completions, L the longest."""

    path: ForwardPath
    ids: Tensor
    """(B, T), token ids; padding is 0."""
    positions: Tensor
    """(B, T), position within prompt + own completion."""
    spans: Tensor
    """(3, B, T), int32, places within the row: where the token's group begins, where the group's prompt ends, and where
    the token's own completion begins (of a prompt's token: the group). Padding is a group of its own, each token."""
    real: Tensor
    """(B, T), bool: False for padding."""
    predicted_from: Tensor
    """(N,), flat index into (B·T) of the position that predicts each completion token."""
    targets: Tensor
    """(N,), the completion tokens' ids."""
    slots: Tensor
    """(N,), flat index into (C·L) of each completion token."""
    lengths: Tensor
    """(C,), tokens."""
    longest: int
    tokens: int
    """Tokens of the batch that are not padding."""
    first_completion: dict[int, int]
    """Index of a unit's first completion in the batch, by unit."""
    groups: list[tuple[int, list[int]]]
    """Tokens of every group's prompt, and of each of its completions, row by row."""

    def to(self, device: torch.device) -> "Batch":
        """The batch with what a model reads of it on ``device``; ``slots`` and ``lengths`` stay where they are.

        On a GPU it is there as soon as the GPU has done what it was given before, and nobody waits for that.
        """
        if device.type == "cpu":
            return self
        names = ("ids", "positions", "spans", "real", "predicted_from", "targets")
        pinned = {name: getattr(self, name).pin_memory() for name in names}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in pinned.items()})


def plan(
    units: Sequence[Unit], chosen: Iterable[int], path: ForwardPath, tokens: int, row_length: int | None = None
) -> list[Plan]:
    """Passes over the ``chosen`` units, each of at most ``tokens`` tokens with padding.

    Longest first, so that rows of a pass are of near equal length. With ``row_length`` None a row is as long as the
    pass's longest unit (a dense mask costs T² per row: short rows are fast on a CPU); with a number, rows are filled
    up to it (a block mask costs nothing for what it hides), and cut to the next multiple of ``FLEX_BLOCK`` behind the
    last group of the fullest. Tiles have one row a pass, as long as its groups. A unit longer than the budget gets a
    pass of its own.
    """
    if path == "tiles":
        return _single_rows(units, chosen, tokens)
    lengths = {unit: _length(units[unit], path) for unit in chosen}
    order = sorted(lengths, key=lambda unit: (-lengths[unit], unit))
    plans: list[Plan] = []
    rows: list[list[int]] = []
    room: list[int] = []
    length = 0
    for unit in order:
        if path == "shared":
            place = next((i for i, free in enumerate(room) if free >= lengths[unit]), None)
            if place is not None:
                rows[place].append(unit)
                room[place] -= lengths[unit]
                continue
        needed = 1 if path == "shared" else len(units[unit].completions)
        used = sum(1 if path == "shared" else len(units[row[0]].completions) for row in rows)
        if rows and (used + needed) * length > tokens:
            plans.append(_cut(rows, room, length, row_length))
            rows, room = [], []
        if not rows:
            length = max(lengths[unit], row_length or 0)
        rows.append([unit])
        room.append(length - lengths[unit])
    if rows:
        plans.append(_cut(rows, room, length, row_length))
    return plans


def _cut(rows: list[list[int]], room: list[int], length: int, row_length: int | None) -> Plan:
    """Rows that were filled up to a length, without the blocks that all of them leave empty."""
    filled = length - min(room)
    return Plan(rows, length if row_length is None else -(-filled // FLEX_BLOCK) * FLEX_BLOCK)


def _single_rows(units: Sequence[Unit], chosen: Iterable[int], tokens: int) -> list[Plan]:
    """As few rows as first-fit finds, longest first; every row is a pass."""
    rows: list[list[int]] = []
    lengths: list[int] = []
    for unit in sorted(chosen, key=lambda unit: (-units[unit].shared_length, unit)):
        length = units[unit].shared_length
        place = next((i for i, used in enumerate(lengths) if used + length <= tokens), None)
        if place is None:
            rows.append([unit])
            lengths.append(length)
        else:
            rows[place].append(unit)
            lengths[place] += length
    return [Plan([row], length) for row, length in zip(rows, lengths, strict=True)]


def build(units: Sequence[Unit], made: Plan, path: ForwardPath) -> Batch:
    """The tensors of one planned pass, on the CPU."""
    rows = _plain_rows(units, made) if path == "plain" else _shared_rows(units, made)
    B, T = len(rows), made.length
    ids, positions = np.zeros((B, T), np.int64), np.zeros((B, T), np.int64)
    spans, real = np.tile(np.arange(T, dtype=np.int32), (3, B, 1)), np.zeros((B, T), np.bool_)
    predicted_from: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    targets: list[int] = []
    lengths: list[int] = []
    for row, parts in enumerate(rows):
        start = 0
        for prompt, completions in parts:
            group, P = start, len(prompt)
            for k, tokens in enumerate([prompt, *completions]):
                end = start + len(tokens)
                ids[row, start:end] = tokens
                positions[row, start:end] = np.arange(len(tokens)) + (P if k else 0)
                spans[:, row, start:end] = [[group], [group + P], [start]]
                if k:
                    places = np.arange(start - 1, end - 1)
                    places[0] = group + P - 1  # the prompt's last position predicts the first token of each
                    predicted_from.append(places + row * T)
                    targets.extend(tokens)
                    lengths.append(len(tokens))
                start = end
        real[row, :start] = True
    longest = max(lengths)
    first_completion, count = {}, 0
    for unit in made.units:
        first_completion[unit] = count
        count += len(units[unit].completions)
    return Batch(
        path=path,
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        spans=torch.from_numpy(spans),
        real=torch.from_numpy(real),
        predicted_from=torch.from_numpy(np.concatenate(predicted_from)),
        targets=torch.tensor(targets),
        slots=torch.from_numpy(np.concatenate([np.arange(n) + c * longest for c, n in enumerate(lengths)])),
        lengths=torch.tensor(lengths),
        longest=longest,
        tokens=int(real.sum()),
        first_completion=first_completion,
        groups=[(len(prompt), [len(c) for c in completions]) for row in rows for prompt, completions in row],
    )


_Part = tuple[list[int], list[list[int]]]


def _shared_rows(units: Sequence[Unit], made: Plan) -> list[list[_Part]]:
    return [[(units[unit].prompt_ids, units[unit].completions) for unit in row] for row in made.rows]


def _plain_rows(units: Sequence[Unit], made: Plan) -> list[list[_Part]]:
    return [[(units[unit].prompt_ids, [c])] for unit in made.units for c in units[unit].completions]


def _length(unit: Unit, path: ForwardPath) -> int:
    return unit.plain_length if path == "plain" else unit.shared_length
