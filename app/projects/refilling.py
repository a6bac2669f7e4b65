"""How a project's pairs are made, and what its gate asks of a new version: what may be set, and in which range."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.language import _

StrategyName = Literal["random", "uncertainty", "information", "diversity"]
STRATEGIES: tuple[StrategyName, ...] = get_args(StrategyName)

DEFAULT_STRATEGY: StrategyName = "random"
DEFAULT_EXPLORATION = 0.2
DEFAULT_POOL_FACTOR = 3


class RefillSettings(BaseModel):
    """What the refill samples, which pairs it forms of it, and how many wait."""

    model_config = ConfigDict(extra="forbid")

    pairs_per_prompt: int = Field(
        default=1,
        ge=1,
        le=28,
        description="Pairs formed of one prompt's answers at a time; n answers (`reviewing.answers`) have n(n-1)/2. "
        "A ranking has all answers in it and forms no pairs.",
    )
    strategy: StrategyName = Field(
        default=DEFAULT_STRATEGY,
        description="What chooses pairs: `random`; `uncertainty`: smallest margin of the current version's implicit "
        "reward; `information`: most expected information about a Bradley-Terry reward; `diversity`: prompts unlike "
        "those judged so far.",
    )
    exploration: float | None = Field(
        default=None,
        gt=0,
        le=1,
        validate_default=True,
        description="Share of pairs left to chance, so that every pair has a chance and results can be weighted back; "
        "0.2 if left out. Not read by `random`.",
    )
    pool_factor: int | None = Field(
        default=None,
        ge=2,
        le=16,
        validate_default=True,
        description="Prompts sampled for each one that is chosen; 3 if left out. Not read by `random`.",
    )
    similarity: float = Field(
        default=0.9,
        ge=0.5,
        le=1,
        description="Answers that share at least this much of their words, in order, are too alike to be compared; "
        "1 drops identical ones only.",
    )
    previous_percent: int = Field(
        default=0, ge=0, le=90, description="Share of pairs that set the current version against the one before."
    )
    candidate_percent: int = Field(
        default=0, ge=0, le=90, description="Share of pairs that set the current version against the newest candidate."
    )
    keep_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="On a promotion, share of the old version's unjudged pairs that stay; those that compare versions "
        "first.",
    )
    buffer_minutes: int = Field(
        default=10,
        ge=0,
        le=1440,
        description="Keep as many pairs ready as reviewers judge in this time at their present pace; 0: always "
        "`buffer_size`.",
    )
    buffer_most: int = Field(default=200, ge=1, le=10_000, description="Never more pairs than this by the pace.")

    @field_validator("exploration", "pool_factor")
    @classmethod
    def _only_where_read(cls, value: Any, info: ValidationInfo) -> Any:
        strategy = info.data.get("strategy")
        if strategy == "random" and value is not None:
            raise ValueError(_("strategy 'random' does not read it; leave it out"))
        if value is None and strategy not in (None, "random"):
            return {"exploration": DEFAULT_EXPLORATION, "pool_factor": DEFAULT_POOL_FACTOR}[str(info.field_name)]
        return value

    @model_validator(mode="after")
    def _whole(self) -> "RefillSettings":
        if self.previous_percent + self.candidate_percent > 90:
            raise ValueError(
                _(
                    "%(previous)s percent against the version before and %(candidate)s against the candidate leave too "
                    "little for the current version alone: at most 90 together",
                    previous=self.previous_percent,
                    candidate=self.candidate_percent,
                )
            )
        return self


def refilling_of(stored: Mapping[str, Any] | None) -> RefillSettings:
    """``projects.refilling`` with every default filled in."""
    return RefillSettings.model_validate(dict(stored or {}))


class GateSettings(BaseModel):
    """What a new version must show before it is promoted by the rule `gate`."""

    model_config = ConfigDict(extra="forbid")

    comparisons: int = Field(
        default=40,
        ge=0,
        le=2000,
        description="Pairs of candidate against current version that people judge blind before the gate decides; 0: "
        "it decides by the figures alone.",
    )
    min_win_rate: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="The lower end of the win rate's 95% interval must reach this. 0.4: surely not clearly worse; "
        "0.5: surely better.",
    )
    min_accuracy: float = Field(
        default=0.5, ge=0, le=1, description="Share of held-out preferences it must side with at least."
    )
    max_kl: float = Field(
        default=50.0, gt=0, le=100_000, description="Largest distance from the reference, nats a completion."
    )
    max_length_ratio: float = Field(
        default=2.0,
        gt=0,
        le=100,
        description="How many times as long as the current version's its answers may be, by tokens, in the blind "
        "comparisons.",
    )


def gate_of(stored: Mapping[str, Any] | None) -> GateSettings:
    """``projects.gate`` with every default filled in."""
    return GateSettings.model_validate(dict(stored or {}))
