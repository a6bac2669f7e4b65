"""What a loss learns from: the groups, cut down to the completions and preferences it reads."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from worker.trainer.data import Group, Preference
from worker.trainer.losses import READS_OUTCOMES
from worker.trainer.packing import Unit


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: indices into the example's completions, and how much it counts."""

    chosen: int
    rejected: int
    weight: float
    margin: float


@dataclass(frozen=True, slots=True)
class Example:
    """A group as it is trained on: only completions that some pair uses."""

    group: Group
    unit: Unit
    pairs: list[Pair]


@dataclass(slots=True)
class Examples:
    """The examples of both splits, and by name how many preferences were left out."""

    train: list[Example] = field(default_factory=list)
    eval: list[Example] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    @property
    def all(self) -> list[Example]:
        """Train first, then eval; the order of ``units`` and of reference keys."""
        return self.train + self.eval

    @property
    def units(self) -> list[Unit]:
        """One unit an example."""
        return [example.unit for example in self.all]


def select(groups: Sequence[Group], loss: str, max_length: int) -> Examples:
    """What ``loss`` learns from, of groups whose every completion fits into ``max_length`` tokens.

    Left out and counted: outcomes the loss does not read, weight 0, identical completions, too long groups,
    labels and rankings.
    """
    made = Examples()
    for group in groups:
        made.unused["label"] += len(group.labels)
        made.unused["ranking"] += len(group.rankings)
        if group.length > max_length:
            made.unused["too long"] += len(group.preferences)
            continue
        kept = [preference for preference in group.preferences if not _reason(group, preference, loss, made.unused)]
        if kept:
            (made.train if group.split == "train" else made.eval).append(_example(group, kept))
    made.unused = Counter({reason: count for reason, count in made.unused.items() if count})
    return made


def _reason(group: Group, preference: Preference, loss: str, unused: Counter[str]) -> bool:
    """Whether the preference is left out, counted under its reason."""
    a, b = group.completions[preference.a], group.completions[preference.b]
    if preference.outcome not in READS_OUTCOMES[loss]:
        reason = preference.outcome
    elif preference.weight == 0:
        reason = "weight 0"
    elif a.ids == b.ids:
        reason = "identical"
    else:
        return False
    unused[reason] += 1
    return True


def _example(group: Group, kept: Iterable[Preference]) -> Example:
    kept = list(kept)
    used = sorted({index for preference in kept for index in (preference.a, preference.b)})
    place = {index: i for i, index in enumerate(used)}
    pairs = []
    for preference in kept:
        a, b = place[preference.a], place[preference.b]
        chosen, rejected = (a, b) if preference.outcome == "a" else (b, a)
        pairs.append(Pair(chosen, rejected, preference.weight, preference.margin))
    unit = Unit(group.prompt_ids, [group.completions[index].ids for index in used])
    return Example(group, unit, pairs)
