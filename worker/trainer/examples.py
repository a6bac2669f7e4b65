"""What a loss learns from: the groups, cut down to the completions and judgements it reads."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from app.rounds.spec import LOSSES
from worker.trainer.data import Group
from worker.trainer.packing import Unit
from worker.trainer.signals import Judgements, Labelled, Order, Pair, read


@dataclass(frozen=True, slots=True)
class Example:
    """A group as it is trained on: only completions that some judgement uses, and the judgements."""

    group: Group
    unit: Unit
    pairs: list[Pair]
    """What a pairwise loss reads. For other losses: the choices among their judgements, for the figures alone."""
    labels: list[Labelled] = field(default_factory=list)
    """What a loss on single answers reads."""
    rankings: list[Order] = field(default_factory=list)
    """What a loss on whole rankings reads."""
    weights: list[float] = field(default_factory=list)
    """How much every judgement counts that the loss reads, in their order; the loss has one value for each."""
    continued: bool = False
    """Whether it is a further piece of the example before it, cut off to fit into a pass; a step has both."""

    @property
    def preferences(self) -> int:
        """Things people said that the judgements come from: KTO makes two judgements of a choice."""
        everything: list[Pair | Labelled | Order] = [*self.pairs, *self.labels, *self.rankings]
        return len({one.judgement for one in everything})

    @property
    def decided(self) -> int:
        """Choices and rankings among them: of two answers, one is better."""
        return len({pair.judgement for pair in self.pairs if not pair.tie})

    @property
    def size(self) -> int:
        """Judgements the loss reads; the pairs that a ranking implies are one."""
        return len(self.labels or self.rankings or {pair.judgement for pair in self.pairs})

    @property
    def weight(self) -> float:
        """Of all of them."""
        return sum(self.weights)


@dataclass(slots=True)
class Examples:
    """The examples of both splits; and by name, what the loss learns from and what was left out."""

    train: list[Example] = field(default_factory=list)
    eval: list[Example] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    """'choice', 'tie', 'both_bad', 'label', 'ranking', and how many of the choices have a 'margin'."""
    unused: Counter[str] = field(default_factory=Counter)

    @property
    def all(self) -> list[Example]:
        """Train first, then eval; the order of ``units`` and of reference keys."""
        return self.train + self.eval

    @property
    def units(self) -> list[Unit]:
        """One unit an example."""
        return [example.unit for example in self.all]


def select(groups: Sequence[Group], loss: str, max_length: int, margin_scale: float = 1.0) -> Examples:
    """What ``loss`` learns from, of completions that fit into ``max_length`` tokens together with their prompt.

    Left out and counted: signals that the loss does not read, weight 0, identical completions, and judgements of which
    a completion is too long.
    """
    made = Examples()
    for whole in groups:
        group = _fitting(whole, max_length, made.unused)
        found = read(group, LOSSES[loss], margin_scale, made.used, made.unused)
        example = _example(group, LOSSES[loss].shape, found)
        if example.size:
            (made.train if group.split == "train" else made.eval).append(example)
    return made


def _fitting(group: Group, max_length: int, unused: Counter[str]) -> Group:
    """The group with those judgements alone whose completions all fit; its completions keep their indices."""
    if group.length <= max_length:
        return group
    room = max_length - len(group.prompt_ids)
    long = {index for index, completion in enumerate(group.completions) if len(completion.ids) > room}
    kept = replace(
        group,
        preferences=[item for item in group.preferences if long.isdisjoint((item.a, item.b))],
        labels=[item for item in group.labels if item.completion not in long],
        rankings=[item for item in group.rankings if all(long.isdisjoint(tier) for tier in item.tiers)],
    )
    if left_out := _judgements(group) - _judgements(kept):
        unused["too long"] += left_out
    return kept


def _judgements(group: Group) -> int:
    return len(group.preferences) + len(group.labels) + len(group.rankings)


def _example(group: Group, shape: str, found: Judgements) -> Example:
    used = sorted(
        {index for pair in found.pairs for index in (pair.chosen, pair.rejected)}
        | {label.completion for label in found.labels}
        | {index for order in found.rankings for index in order.places}
    )
    place = {index: i for i, index in enumerate(used)}
    read_by_loss: dict[str, Iterable[Pair | Labelled | Order]] = {
        "pairs": found.pairs,
        "labels": found.labels,
        "rankings": found.rankings,
    }
    return Example(
        group,
        Unit(group.prompt_ids, [group.completions[index].ids for index in used]),
        [pair.moved(place) for pair in found.pairs],
        [label.moved(place) for label in found.labels],
        [order.moved(place) for order in found.rankings],
        [judgement.weight for judgement in read_by_loss[shape]],
    )


def lengths(examples: Sequence[Example]) -> dict[str, float]:
    """Mean tokens of chosen and of rejected answers over all ``examples``, and by how much the chosen are longer.

    Where there is no choice among them, of good and of bad answers. Empty where one side is missing.
    """
    sums = {True: 0.0, False: 0.0}
    weights = {True: 0.0, False: 0.0}
    paired = any(not pair.tie for example in examples for pair in example.pairs)
    for example in examples:
        for index, chosen, weight in _sides(example, paired=paired):
            sums[chosen] += weight * len(example.unit.completions[index])
            weights[chosen] += weight
    if not all(weights.values()):
        return {}
    chosen_tokens, rejected_tokens = sums[True] / weights[True], sums[False] / weights[False]
    return {
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
        "length_delta": chosen_tokens - rejected_tokens,
    }


def _sides(example: Example, *, paired: bool) -> Iterator[tuple[int, bool, float]]:
    """Every answer as (index, whether it is chosen or good, weight)."""
    if not paired:
        yield from ((label.completion, label.desirable, label.weight) for label in example.labels)
        return
    for pair in example.pairs:
        if not pair.tie:
            yield pair.chosen, True, pair.weight
            yield pair.rejected, False, pair.weight
