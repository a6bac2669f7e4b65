"""How a project's votes become preferences: the settings that ``app.preferences`` reads.

Stored in ``projects.aggregation`` as plain JSON; what is missing there has its default, by which every vote is a
preference of its own. Read it with :func:`aggregation_of`, never by key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Method = Literal["each", "majority"]
Kept = Literal["keep", "drop"]

OVERALL, WEIGHTED = "overall", "weighted"

Weight = Annotated[float, Field(ge=0, le=100)]
Margin = Annotated[float, Field(ge=0, le=100)]
CriterionKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Margins(BaseModel):
    """Margin δ of a preference by the strength that was given, nats in the scale of β·Δ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slightly: Margin = 0.0
    clearly: Margin = 0.5
    much: Margin = 1.0

    def of(self, strength: int | None) -> float:
        """The margin of strength 1, 2 or 3; of none 0."""
        return {1: self.slightly, 2: self.clearly, 3: self.much}.get(strength or 0, 0.0)


class Aggregation(BaseModel):
    """The aggregation settings of a project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = Field(
        default="each",
        description="`each`: every vote is a preference; `majority`: one preference for each pair, what most said.",
    )
    skill: bool = Field(
        default=False,
        description="Weigh votes by their reviewer's skill, estimated from agreement and gold pairs (Dawid-Skene).",
    )
    undecided: Literal["tie", "drop"] = Field(
        default="tie", description="With `majority`: what a pair becomes on which no side has most votes."
    )
    ties: Kept = Field(default="keep", description="Whether ties reach training; losses that cannot use them say so.")
    both_bad: Kept = Field(default="keep", description='Whether "both bad" reaches training.')
    criteria: str = Field(
        default=OVERALL,
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="`overall`: the choice itself; `weighted`: all criteria weighed into one; or a criterion's key, to "
        "train on it alone.",
    )
    criteria_weights: dict[CriterionKey, Weight] = Field(
        default_factory=dict, max_length=8, description="With `weighted`: weight of each criterion; 1 if left out."
    )
    corrections: bool = Field(
        default=True, description="A corrected answer is preferred to the one it was made from, and to the other."
    )
    margins: Margins = Field(default_factory=Margins, description="Margin by strength of preference.")
    half_life_days: float | None = Field(
        default=None, gt=0, le=36_500, description="A vote this old weighs half as much; null: age does not matter."
    )
    window_days: float | None = Field(
        default=None, gt=0, le=36_500, description="A round reads votes of the last so many days; null: all of them."
    )
    replay_percent: float | None = Field(
        default=None,
        ge=0,
        le=95,
        description="At most this share of the votes a round trains on are ones its model has learned from already, "
        "drawn by chance; 0: only new ones; null: all of them.",
    )


def aggregation_of(stored: Mapping[str, Any] | None) -> Aggregation:
    """``projects.aggregation`` with every default filled in."""
    return Aggregation.model_validate(dict(stored or {}))
