"""The shape of versions in the API."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class VersionOut(BaseModel):
    """A version: a model that a round made."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID = Field(description="Also the model's name in the engine.")
    number: int
    state: str = Field(description="candidate, current, retired or rejected. One version is current at a time.")
    kind: str = Field(description="`full`, or `adapter` on the version `base_id`.")
    parent_id: UUID | None = Field(description="The version it was trained from.")
    base_id: UUID | None
    digest: str = Field(description="SHA-256 of its manifest.")
    context_length: int = Field(description="Tokens, prompt and completion together.")
    metrics: dict[str, Any] = Field(description="Figures of its training and evaluation.")
    gate_state: str | None = Field(
        description="Of the blind comparisons at the gate: `open`, `passed`, `failed`, `ended` without a verdict; null "
        "if none were asked for. `metrics.gate` has the figures, `metrics.gate.blind` the win rate once it is decided."
    )
    created_at: datetime
    promoted_at: datetime | None
    retired_at: datetime | None


class VersionPage(BaseModel):
    """Some versions, newest first."""

    items: list[VersionOut]
    next_cursor: int | None = Field(description="Give it as `cursor` to go on; null at the end.")


class RejectIn(BaseModel):
    """Why a candidate is put aside."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "Answers are too long."}]})

    reason: str = Field(default="", max_length=1000, description="Kept in the audit log.")
