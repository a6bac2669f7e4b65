"""The examples of one split with what a pass over them needs."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from worker.trainer.examples import Example
from worker.trainer.packing import Unit
from worker.trainer.reference import completion_keys


class Split:
    """Examples, their units, and the reference's log-probs of every completion."""

    def __init__(
        self,
        examples: Sequence[Example],
        reference: Mapping[str, Tensor],
        mismatched: Mapping[int, Unit] | None = None,
    ) -> None:
        """``mismatched``: by index of an example, its prompt with an answer to another one."""
        self.examples = examples
        self.units = [example.unit for example in examples]
        self.keys = completion_keys(self.units)
        self.reference = reference
        self.paired = any(example.pairs for example in examples)
        """Whether there is any choice between two completions."""
        self.mismatched = mismatched or {}

    def compared(self, chosen: Iterable[int]) -> int:
        """What agreement over the ``chosen`` examples is a share of: choices and rankings, or labels without any."""
        return sum(self._compared(index) for index in chosen)

    def prompts(self, chosen: Iterable[int]) -> int:
        """How many prompts those are of: judgements of one resemble each other."""
        return len({self.examples[index].group.id for index in chosen if self._compared(index)})

    def _compared(self, index: int) -> int:
        example = self.examples[index]
        return example.decided if self.paired else example.size
