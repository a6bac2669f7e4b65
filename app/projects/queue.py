"""How pairs reach reviewers, and how their work is checked: the settings of a project's queue.

Stored in ``projects.queue`` as plain JSON; what is missing there has its default, and the defaults check nothing.
Read it with :func:`queue_of`, never by key.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.language import _

Order = Literal["oldest", "newest", "breadth", "random"]
BadFaith = Literal["off", "report", "quarantine"]

MOST_CHECKS_PERCENT = 50


class QueueSettings(BaseModel):
    """The queue settings of a project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: Order = Field(
        default="oldest",
        description="`oldest` first, a pair's votes one after another; `newest` first; `breadth`: a first vote on "
        "every pair before a second one on any; `random`.",
    )
    own_prompts: bool = Field(default=True, description="Reviewers may be given pairs of prompts that they sent in.")
    daily_goal: int | None = Field(
        default=None, ge=1, le=10_000, description="Pairs a reviewer should judge in a day; null: no goal."
    )
    gold_percent: float = Field(
        default=0, ge=0, le=50, description="Share of gold pairs (the better answer is known) among what is handed out."
    )
    attention_percent: float = Field(
        default=0, ge=0, le=50, description="Share of attention pairs (whoever reads them sees which is better)."
    )
    repeat_percent: float = Field(
        default=0, ge=0, le=50, description="Share of own earlier pairs, shown again with the sides swapped."
    )
    repeat_after: int = Field(
        default=20, ge=1, le=10_000, description="Pairs that a reviewer judges before one of them may be repeated."
    )
    qualification_pairs: int = Field(
        default=0, ge=0, le=200, description="Gold pairs to judge before real work; 0: no qualification round."
    )
    qualification_percent: float = Field(
        default=70, ge=0, le=100, description="Share of them to be judged right, percent."
    )
    min_seconds: float = Field(
        default=0, ge=0, le=120, description="Shortest time before a choice is taken, seconds the pair was visible."
    )
    bad_faith: BadFaith = Field(
        default="report",
        description="`report` whose votes look random, one-sided or copied; `quarantine` them at once; `off`.",
    )

    @model_validator(mode="after")
    def _leaves_work(self) -> "QueueSettings":
        checks = self.gold_percent + self.attention_percent + self.repeat_percent
        if checks > MOST_CHECKS_PERCENT:
            raise ValueError(
                _(
                    "gold, attention and repeated pairs make up %(checks)s%; at most "
                    "%(most_checks_percent)s% leaves work",
                    checks=f"{checks:g}",
                    most_checks_percent=MOST_CHECKS_PERCENT,
                )
            )
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Kind of check → percent of what is handed out, those above 0."""
        named = {"gold": self.gold_percent, "attention": self.attention_percent, "repeat": self.repeat_percent}
        return {kind: percent for kind, percent in named.items() if percent > 0}

    @property
    def checks(self) -> bool:
        """Whether reviewers are handed anything but work."""
        return bool(self.shares) or self.qualification_pairs > 0


def queue_of(stored: Mapping[str, Any] | None) -> QueueSettings:
    """``projects.queue`` with every default filled in."""
    return QueueSettings.model_validate(dict(stored or {}))
