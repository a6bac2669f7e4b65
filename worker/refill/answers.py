"""A completion between the engine and the database."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion as it is, or will be, stored."""

    version_id: UUID
    text: str
    prompt_ids: list[int]
    ids: list[int]
    end: str
    sampling: dict[str, Any]
    scores: dict[str, Any] = field(default_factory=dict)
    """What ``worker.refill.rewards`` measured; empty when nothing was."""
    id: UUID | None = None
    """Of the stored row; None while it is not stored."""

    @property
    def reward(self) -> float | None:
        """The implicit reward under the version that was current when it was sampled, nats; None if not measured."""
        value = self.scores.get("reward")
        return float(value) if isinstance(value, int | float) else None
