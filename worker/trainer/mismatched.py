"""Mismatched completions: a prompt with answers to other ones, from which KTO measures how far the policy moved.

Every judged answer has one, the same in every epoch, so that its reference log-probs are stored as all others are.
They are run before the step they belong to and without gradient, for z0 is that of the whole step, however many passes
it has.
"""

from collections.abc import Mapping, Sequence

from worker.trainer.data import ids_digest
from worker.trainer.examples import Example
from worker.trainer.packing import Unit

_TRIED = 64
"""Judged answers tried for one that fits and belongs to another prompt."""


def mismatched_units(examples: Sequence[Example], max_length: int) -> Mapping[int, Unit]:
    """By index of an example, its prompt with an answer to another prompt for each of its own judged answers.

    All judged answers of the split stand in a ring, in the order of their digests, and each is answered for by the next
    that has another prompt and fits into ``max_length`` tokens. So every answer stands in for about one, the good
    and the bad alike, and the order of rows in a file means nothing. One without such a neighbour is passed over.
    """
    judged = [
        (index, example.unit.completions[label.completion])
        for index, example in enumerate(examples)
        for label in example.labels
    ]
    ring = sorted(judged, key=lambda item: ids_digest(examples[item[0]].unit.prompt_ids, item[1]))
    found: dict[int, list[list[int]]] = {}
    for place, (index, _) in enumerate(ring):
        prompt = examples[index].unit.prompt_ids
        for step in range(1, min(len(ring), _TRIED + 1)):
            other, completion = ring[(place + step) % len(ring)]
            if examples[other].unit.prompt_ids != prompt and len(prompt) + len(completion) <= max_length:
                found.setdefault(index, []).append(completion)
                break
    return {index: Unit(examples[index].unit.prompt_ids, completions) for index, completions in found.items()}
