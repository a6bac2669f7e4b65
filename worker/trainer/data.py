"""The group format: a prompt, its completions, and what people said of them (one JSON object a line)."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.trainer.errors import RefusedError

Split = Literal["train", "eval"]
SPLITS = ("train", "eval")
ENDS = ("eos", "stop", "length", "human")
OUTCOMES = ("a", "b", "tie", "both_bad")


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: the token ids that were sampled, end token included where it ended by itself."""

    id: str
    ids: list[int]
    text: str | None
    end: str
    """'eos': ended by itself; 'stop': at a stop string; 'length': cut off; 'human': written or corrected by one."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What people said of completions ``a`` and ``b`` (indices into the group's completions)."""

    id: str
    a: int
    b: int
    outcome: str
    margin: float
    weight: float


@dataclass(frozen=True, slots=True)
class Label:
    """An unpaired judgement of one completion."""

    completion: int
    desirable: bool
    weight: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Completions from best to worst, equals in one tier."""

    tiers: list[list[int]]
    weight: float


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt with its completions."""

    id: str
    split: Split
    prompt_ids: list[int]
    completions: list[Completion]
    preferences: list[Preference]
    labels: list[Label]
    rankings: list[Ranking]

    @property
    def length(self) -> int:
        """Tokens of the prompt and its longest completion."""
        return len(self.prompt_ids) + max((len(completion.ids) for completion in self.completions), default=0)


def read_groups(file: Path) -> list[Group]:
    """The groups in ``file``.

    Raises:
        RefusedError: the file is missing or empty, or a line is wrong; it names the line and the field.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            groups = list(_parse_lines(lines, file.name))
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} cannot be read: {error}") from error
    if not groups:
        raise RefusedError(f"{file} holds no groups; a round needs at least one comparison with a preference")
    return groups


def _parse_lines(lines: Iterable[str], name: str) -> Iterator[Group]:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            group = parse_group(json.loads(line))
        except ValueError as error:
            raise RefusedError(f"{where}: {error}") from error
        if group.id in seen:
            raise RefusedError(f"{where}: group id {group.id!r} was on line {seen[group.id]} already; ids are unique")
        seen[group.id] = number
        yield group


def parse_group(data: Any) -> Group:
    """A group out of decoded JSON. Raises ValueError, naming the field."""
    if not isinstance(data, dict):
        raise ValueError(f"must be an object, not {type(data).__name__}")  # noqa: TRY004 - one error type for bad input
    split = data.get("split")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is neither 'train' nor 'eval'")
    completions = [_completion(item, f"completions[{i}]") for i, item in enumerate(_list(data, "completions"))]
    count = len(completions)
    return Group(
        id=_text(data, "id", "group"),
        split=split,
        prompt_ids=_ids(data.get("prompt_ids"), "prompt_ids"),
        completions=completions,
        preferences=[
            _preference(item, f"preferences[{i}]", count) for i, item in enumerate(_list(data, "preferences"))
        ],
        labels=[_label(item, f"labels[{i}]", count) for i, item in enumerate(_list(data, "labels"))],
        rankings=[_ranking(item, f"rankings[{i}]", count) for i, item in enumerate(_list(data, "rankings"))],
    )


def group_to_dict(group: Group) -> dict[str, Any]:
    """The JSON object ``parse_group`` reads."""
    return {
        "id": group.id,
        "split": group.split,
        "prompt_ids": group.prompt_ids,
        "completions": [{"id": c.id, "ids": c.ids, "text": c.text, "end": c.end} for c in group.completions],
        "preferences": [
            {"id": p.id, "a": p.a, "b": p.b, "outcome": p.outcome, "margin": p.margin, "weight": p.weight}
            for p in group.preferences
        ],
        "labels": [{"completion": x.completion, "desirable": x.desirable, "weight": x.weight} for x in group.labels],
        "rankings": [{"tiers": x.tiers, "weight": x.weight} for x in group.rankings],
    }


def ids_digest(prompt_ids: list[int], completion_ids: list[int]) -> str:
    """SHA-256 that tells (prompt, completion) apart by their tokens, hexadecimal."""
    text = f"{','.join(map(str, prompt_ids))}|{','.join(map(str, completion_ids))}"
    return hashlib.sha256(text.encode()).hexdigest()


def _completion(data: Any, where: str) -> Completion:
    _object(data, where)
    end = data.get("end")
    if end not in ENDS:
        raise ValueError(f"{where}.end {end!r} is none of {', '.join(ENDS)}")
    text = data.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{where}.text is {type(text).__name__}, not a text")
    return Completion(id=_text(data, "id", where), ids=_ids(data.get("ids"), f"{where}.ids"), text=text, end=end)


def _preference(data: Any, where: str, count: int) -> Preference:
    _object(data, where)
    a, b = _index(data.get("a"), f"{where}.a", count), _index(data.get("b"), f"{where}.b", count)
    if a == b:
        raise ValueError(f"{where} compares completion {a} with itself")
    outcome = data.get("outcome")
    if outcome not in OUTCOMES:
        raise ValueError(f"{where}.outcome {outcome!r} is none of {', '.join(OUTCOMES)}")
    margin = _number(data.get("margin", 0.0), f"{where}.margin")
    weight = _weight(data, where)
    return Preference(id=_text(data, "id", where), a=a, b=b, outcome=outcome, margin=margin, weight=weight)


def _label(data: Any, where: str, count: int) -> Label:
    _object(data, where)
    desirable = data.get("desirable")
    if not isinstance(desirable, bool):
        raise ValueError(f"{where}.desirable {desirable!r} is neither true nor false")  # noqa: TRY004
    return Label(_index(data.get("completion"), f"{where}.completion", count), desirable, _weight(data, where))


def _ranking(data: Any, where: str, count: int) -> Ranking:
    _object(data, where)
    tiers = data.get("tiers")
    if not isinstance(tiers, list) or not all(isinstance(tier, list) and tier for tier in tiers):
        raise ValueError(f"{where}.tiers must be a list of non-empty lists")
    flat = [_index(item, f"{where}.tiers", count) for tier in tiers for item in tier]
    if len(set(flat)) != len(flat):
        raise ValueError(f"{where}.tiers names a completion twice")
    return Ranking(tiers=tiers, weight=_weight(data, where))


def _object(data: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object, not {type(data).__name__}")  # noqa: TRY004


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {type(value).__name__}")  # noqa: TRY004
    return value


def _text(data: dict[str, Any], name: str, where: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {name} {value!r} is not a text")
    return value


def _ids(value: Any, where: str) -> list[int]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} must be a non-empty list of token ids")
    if not all(type(item) is int and item >= 0 for item in value):
        raise ValueError(f"{where} holds something that is not a token id (whole numbers from 0)")
    return value


def _index(value: Any, where: str, count: int) -> int:
    if type(value) is not int or not 0 <= value < count:
        raise ValueError(f"{where} is {value!r}, but the group has completions 0 to {count - 1}")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) < float("inf"):
        raise ValueError(f"{where} {value!r} is not a finite number")
    return float(value)


def _weight(data: dict[str, Any], where: str) -> float:
    weight = _number(data.get("weight", 1.0), f"{where}.weight")
    if weight < 0:
        raise ValueError(f"{where}.weight {weight:g} is negative")
    return weight
