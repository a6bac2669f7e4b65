"""Mismatched completions: a prompt with an answer to another one, from which KTO measures how far the policy moved.

Every group has one, the same in every epoch, so that its reference log-probs are stored as all others are. They are
run before the step they belong to and without gradient, for z0 is that of the whole step, however many passes it has.
"""

from collections.abc import Mapping, Sequence

from worker.trainer.examples import Example
from worker.trainer.packing import Unit

_TRIED = 64
"""Neighbours tried for an answer that fits and belongs to another prompt."""


def mismatched_units(examples: Sequence[Example], max_length: int) -> Mapping[int, Unit]:
    """By index of an example, its prompt with the first answer of the next example that has another prompt.

    An example is left out where no answer of its next neighbours fits into ``max_length`` tokens.
    """
    made = {}
    count = len(examples)
    for index, example in enumerate(examples):
        prompt = example.unit.prompt_ids
        for step in range(1, min(count, _TRIED + 1)):
            other = examples[(index + step) % count].unit
            if other.prompt_ids != prompt and len(prompt) + len(other.completions[0]) <= max_length:
                made[index] = Unit(prompt, [other.completions[0]])
                break
    return made
