"""The shift of a loss that has one: how far answers have moved from the reference so far, chosen and rejected alike.

It is the mean over the steps before, each of which counts once: the step's own answers are left out, so that all of its
passes read the same number and no pass has to be run twice.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Shift:
    """Two running means, in nats, with the steps each is of; part of a checkpoint."""

    moved: float = 0.0
    """Against the reference of the loss, over the steps since that last moved."""
    moved_steps: int = 0
    fixed: float = 0.0
    """Against the job's reference, over all steps."""
    fixed_steps: int = 0

    def learn(self, moved: float, fixed: float) -> None:
        """Count a step: its mean log-ratio of chosen and rejected answers, against the one and the other reference."""
        self.moved_steps += 1
        self.moved += (moved - self.moved) / self.moved_steps
        self.fixed_steps += 1
        self.fixed += (fixed - self.fixed) / self.fixed_steps

    def reference_moved(self) -> None:
        """Start anew against the reference where it is now: what was measured before is of another one."""
        self.moved, self.moved_steps = 0.0, 0
