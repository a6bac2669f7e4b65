"""Examples cut to size: of a prompt with very many judgements, some in each step, and some of a step in each pass.

A part has the prompt and the completions of its own judgements. A judgement is never cut: a ranking stays whole, and
both answers of a choice stay together. Judgements that share completions stay together as far as they fit.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from worker.trainer.examples import Example
from worker.trainer.packing import ForwardPath, Unit
from worker.trainer.signals import Labelled, Order, Pair


@dataclass(slots=True)
class _Judgement:
    """What one thing that people said is to a loss."""

    pairs: list[Pair] = field(default_factory=list)
    labels: list[Labelled] = field(default_factory=list)
    rankings: list[Order] = field(default_factory=list)

    @property
    def completions(self) -> set[int]:
        """Indices of the completions it is about."""
        of_pairs = {index for pair in self.pairs for index in (pair.chosen, pair.rejected)}
        return of_pairs | {x.completion for x in self.labels} | {i for order in self.rankings for i in order.places}


def by_judgements(examples: Iterable[Example], most: int) -> list[Example]:
    """The examples, each of at most ``most`` judgements; the parts of one are examples of their own."""
    return [part for example in examples for part in _cut(example, lambda part: part.size <= most)]


def by_tokens(examples: Iterable[Example], tokens: int, path: ForwardPath) -> list[Example]:
    """The examples, each a pass of at most ``tokens`` tokens; the pieces of one are ``continued``.

    A judgement that is longer than that is a piece of its own.
    """
    return [
        replace(piece, continued=True) if number else piece
        for example in examples
        for number, piece in enumerate(_cut(example, lambda piece: _tokens(piece.unit, path) <= tokens))
    ]


def _tokens(unit: Unit, path: ForwardPath) -> int:
    """Of the unit in a pass by itself, padding included."""
    return len(unit.completions) * unit.plain_length if path == "plain" else unit.shared_length


def _cut(example: Example, fits: Callable[[Example], bool]) -> list[Example]:
    if fits(example):
        return [example]
    made: list[Example] = []
    begun: list[_Judgement] = []
    for judgement in _walk(_judgements(example)):
        if begun and not fits(_example(example, [*begun, judgement])):
            made.append(_example(example, begun))
            begun = []
        begun.append(judgement)
    return [*made, _example(example, begun)]


def _judgements(example: Example) -> list[_Judgement]:
    found: dict[int, _Judgement] = {}
    for pair in example.pairs:
        found.setdefault(pair.judgement, _Judgement()).pairs.append(pair)
    for label in example.labels:
        found.setdefault(label.judgement, _Judgement()).labels.append(label)
    for order in example.rankings:
        found.setdefault(order.judgement, _Judgement()).rankings.append(order)
    return list(found.values())


def _walk(judgements: Sequence[_Judgement]) -> Iterator[_Judgement]:
    """All of them, from each on to those that share a completion with it."""
    about: dict[int, list[int]] = {}
    for number, judgement in enumerate(judgements):
        for completion in sorted(judgement.completions):
            about.setdefault(completion, []).append(number)
    seen: set[int] = set()
    for first in range(len(judgements)):
        waiting = deque([first] if first not in seen else [])
        seen.add(first)
        while waiting:
            judgement = judgements[waiting.popleft()]
            yield judgement
            for completion in sorted(judgement.completions):
                near = [number for number in about.pop(completion, []) if number not in seen]
                seen.update(near)
                waiting.extend(near)


def _example(whole: Example, judgements: Sequence[_Judgement]) -> Example:
    """The part of ``whole`` that has these judgements."""
    used = sorted(set().union(*(judgement.completions for judgement in judgements)))
    place = {index: i for i, index in enumerate(used)}
    pairs = [pair.moved(place) for judgement in judgements for pair in judgement.pairs]
    labels = [label.moved(place) for judgement in judgements for label in judgement.labels]
    rankings = [order.moved(place) for judgement in judgements for order in judgement.rankings]
    return Example(
        whole.group,
        Unit(whole.unit.prompt_ids, [whole.unit.completions[index] for index in used]),
        pairs,
        labels,
        rankings,
        [judgement.weight for judgement in labels or rankings or pairs],
        whole.continued,
    )
