"""What a loss on single answers reads: one row per judged completion."""

from dataclasses import dataclass

from torch import Tensor

from worker.trainer.losses.pairs import Side


@dataclass(frozen=True, slots=True)
class Labels:
    """A batch of completions that people called good or bad, each by itself."""

    completion: Side
    desirable: Tensor
    """(batch,), bool."""
    baseline: Tensor
    """(), nats: z0, how far the policy has moved from the reference on answers of other prompts; no gradient."""
