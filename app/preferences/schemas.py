"""What the API tells of preferences."""

from math import isfinite
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class SummaryOut(BaseModel):
    """What a round would read of the votes as they stand."""

    train: int = Field(description="Preferences to train on.")
    eval: int = Field(description="Preferences on held-out prompts, which only evaluate.")
    ties: int
    both_bad: int
    rankings: int
    corrections: int
    labels: int = Field(description="Thumbs of API clients on single answers.")
    prompts: int
    reviewers: int
    contradictions: int = Field(description="Pairs on which reviewers preferred either side, and that are not settled.")
    settled: int = Field(description="Pairs settled by adjudication: one preference each, of full weight.")
    left_out: dict[str, int] = Field(description="Votes that are not read, by reason.")
    aggregation: dict[str, Any] = Field(description="The settings by which it is made.")


class DisagreementOut(_Read):
    """Twos of votes that disagree, with Wilson's 95 % interval."""

    hits: int
    total: int
    value: float
    low: float
    high: float


class GapOut(_Read):
    """Votes so many days apart."""

    from_days: float
    to_days: float | None = Field(description="Null: without end.")
    same: DisagreementOut | None = Field(description="By one reviewer.")
    others: DisagreementOut | None = Field(description="By different reviewers.")

    @field_validator("to_days", mode="before")
    @classmethod
    def _without_end(cls, days: float) -> float | None:
        return days if isfinite(days) else None


class ShiftOut(_Read):
    """Votes of the last week against those that are a month older or more."""

    recent: DisagreementOut | None
    usual: DisagreementOut | None = Field(description="Of votes at most a week apart: what there is without drift.")
    p: float | None = Field(description="Fisher's exact test that the first is not larger.")
    drifted: bool


class DriftOut(_Read):
    """Whether people still want what they wanted."""

    same: ShiftOut
    others: ShiftOut
    gaps: list[GapOut]
