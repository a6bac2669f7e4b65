"""What a loss on whole rankings reads: one row per ranking."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rankings:
    """A batch of rankings of up to K completions of one prompt each, best first."""

    log_ratio: Tensor
    """(batch, K), nats: ρ of the completion at every place; anything behind a ranking's end."""
    tier: Tensor
    """(batch, K), whole numbers that never fall along a row: equal ones are equals; −1 behind a ranking's end."""
