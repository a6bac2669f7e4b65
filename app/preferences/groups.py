"""The group format the trainer reads: a prompt with its completions and what people said of them, a line each.

The lines are canonical: the same preferences always give the same bytes. The hash of a snapshot is the SHA-256 of
these bytes, so it is also the checksum of the groups.jsonl in a round's job directory.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Completion, RoundExample
from app.preferences.labels import Label, frozen_labels
from app.preferences.records import Tiers

_PROMPTS_PER_QUERY = 200


class Example(Protocol):
    """What a line needs to know of a preference."""

    @property
    def prompt_id(self) -> UUID: ...
    @property
    def kind(self) -> str: ...
    @property
    def completion_a_id(self) -> UUID: ...
    @property
    def completion_b_id(self) -> UUID | None: ...
    @property
    def split(self) -> str: ...
    @property
    def outcome(self) -> str | None: ...
    @property
    def tiers(self) -> Tiers | None: ...
    @property
    def margin(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def vote_id(self) -> UUID: ...


class _Frozen(NamedTuple):
    prompt_id: UUID
    kind: str
    completion_a_id: UUID
    completion_b_id: UUID | None
    split: str
    outcome: str | None
    tiers: Tiers | None
    margin: float
    weight: float
    vote_id: UUID


class _Answer(NamedTuple):
    id: UUID
    prompt_ids: list[int]
    ids: list[int]
    text: str
    end: str


def frozen(db: Session, round_id: UUID) -> Iterator[_Frozen]:
    """The examples of a round's snapshot, in their order."""
    rows = db.scalars(
        select(RoundExample)
        .where(RoundExample.round_id == round_id, RoundExample.kind != "label")
        .order_by(RoundExample.ordinal),
        execution_options={"yield_per": 1000},
    )
    for row in rows:
        yield _Frozen(
            row.prompt_id,
            row.kind,
            row.completion_a_id,
            row.completion_b_id,
            row.split,
            row.outcome,
            None if row.tiers is None else tuple(tuple(UUID(item) for item in tier) for tier in row.tiers),
            row.margin,
            row.weight,
            row.vote_ids[0],
        )


def groups(db: Session, examples: Iterable[Example], labels: Iterable[Label] = ()) -> Iterator[dict[str, Any]]:
    """A group for every prompt of ``examples`` and ``labels``, which come ordered by prompt; completions are read in
    batches.

    A prompt that was tokenised in two ways (a changed template) makes a group for each.
    """
    together: Iterator[Example | Label] = merge(examples, labels, key=lambda item: item.prompt_id)
    by_prompt = (list(block) for _, block in groupby(together, key=lambda item: item.prompt_id))
    for batch in _batches(by_prompt, _PROMPTS_PER_QUERY):
        answers = _answers(db, batch)
        for block in batch:
            yield from _of_prompt(block, answers)


def lines(db: Session, examples: Iterable[Example], labels: Iterable[Label] = ()) -> Iterator[bytes]:
    """The groups as canonical JSON lines."""
    for group in groups(db, examples, labels):
        yield json.dumps(group, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def snapshot_lines(db: Session, round_id: UUID) -> Iterator[bytes]:
    """groups.jsonl of a round, rebuilt from its frozen rows: always the same bytes."""
    return lines(db, frozen(db, round_id), frozen_labels(db, round_id))


def digest(content: Iterable[bytes]) -> str:
    """SHA-256 over the lines, hexadecimal."""
    sha = hashlib.sha256()
    for line in content:
        sha.update(line)
    return sha.hexdigest()


def _named(item: Example | Label) -> tuple[UUID, ...]:
    """The completions that are spoken of."""
    if isinstance(item, Label):
        return (item.completion_id,)
    if item.tiers is not None:
        return tuple(completion for tier in item.tiers for completion in tier)
    return (item.completion_a_id,) if item.completion_b_id is None else (item.completion_a_id, item.completion_b_id)


def _names(pairs: Iterable[Example]) -> list[str]:
    """Each pair by the vote it comes from; further ones of that vote (its edit against both answers) are numbered."""
    seen: Counter[UUID] = Counter()
    names = []
    for item in pairs:
        number = seen[item.vote_id]
        seen[item.vote_id] += 1
        names.append(f"{item.vote_id}.{number}" if number else str(item.vote_id))
    return names


def _of_prompt(block: list[Example | Label], answers: dict[UUID, _Answer]) -> Iterator[dict[str, Any]]:
    variants: dict[tuple[int, ...], list[Example | Label]] = {}
    for item in block:
        variants.setdefault(tuple(answers[_named(item)[0]].prompt_ids), []).append(item)
    for number, (prompt_ids, said) in enumerate(variants.items(), start=1):
        used = sorted({id_ for item in said for id_ in _named(item)})
        index = {id_: position for position, id_ in enumerate(used)}
        examples = [item for item in said if not isinstance(item, Label)]
        pairs = [item for item in examples if item.kind == "pair"]
        rankings = [item for item in examples if item.kind == "ranking"]
        labels = [item for item in said if isinstance(item, Label)]
        name, names = str(said[0].prompt_id), _names(pairs)
        yield {
            "id": name if number == 1 else f"{name}.{number}",
            "split": said[0].split,
            "prompt_ids": list(prompt_ids),
            "completions": [
                {"id": str(id_), "ids": answers[id_].ids, "text": answers[id_].text, "end": answers[id_].end}
                for id_ in used
            ],
            "preferences": [
                {
                    "id": names[position],
                    "a": index[item.completion_a_id],
                    "b": index[item.completion_b_id or item.completion_a_id],
                    "outcome": item.outcome,
                    "margin": item.margin,
                    "weight": item.weight,
                }
                for position, item in enumerate(pairs)
            ],
            "labels": [
                {"completion": index[label.completion_id], "desirable": label.desirable, "weight": label.weight}
                for label in labels
            ],
            "rankings": [
                {"tiers": [[index[one] for one in tier] for tier in item.tiers or ()], "weight": item.weight}
                for item in rankings
            ],
        }


def _answers(db: Session, batch: list[list[Example | Label]]) -> dict[UUID, _Answer]:
    wanted = {id_ for block in batch for item in block for id_ in _named(item)}
    query = select(Completion.id, Completion.prompt_ids, Completion.ids, Completion.text, Completion.end)
    return {row.id: _Answer(*row) for row in db.execute(query.where(Completion.id.in_(wanted)))}


def _batches(blocks: Iterator[list[Example | Label]], size: int) -> Iterator[list[list[Example | Label]]]:
    batch: list[list[Example | Label]] = []
    for block in blocks:
        batch.append(block)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
