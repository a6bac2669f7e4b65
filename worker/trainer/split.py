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
        few = [self.examples[index] for index in chosen]
        return sum(example.decided if self.paired else example.size for example in few)
