"""The shape of rounds in the API."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.projects.schemas import Training


class RoundIn(BaseModel):
    """How a round differs from the project's settings. Leave it out, or `{}`: in nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"training": {"loss": "kto", "loss_settings": {"undesirable_weight": 1.2}}}]},
    )

    training: Training = Field(
        default_factory=dict,
        description="Training settings of this round alone, over the project's. `loss_settings` are changed one by "
        "one; another `loss` starts from its own defaults. What the loss does not read is refused.",
    )


class RoundOut(BaseModel):
    """A round: a job that makes a version."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    number: int = Field(description="Counts up within the project; 0 is the import of the base model.")
    kind: str = Field(description="`dpo` trains; `import` brings in the base model as version 1.")
    trigger: str = Field(description="button, api, votes, schedule or setup.")
    state: str = Field(description="queued, preparing, training, publishing, done, failed or cancelled.")
    settings: dict[str, Any] = Field(description="Training settings as they were when it was requested.")
    parent_id: UUID | None = Field(description="The version it starts from.")
    reference_id: UUID | None
    version_id: UUID | None = Field(description="The version it made.")
    snapshot_hash: str | None = Field(description="SHA-256 of the frozen examples it read.")
    counts: dict[str, Any] = Field(description="Examples in the snapshot, and votes left out with the reason.")
    progress: dict[str, Any] = Field(description="The trainer's latest figures.")
    attempt: int = Field(description="How often a worker has taken it.")
    error_code: str | None
    error: str | None = Field(description="Why it failed and what to do.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class EventOut(BaseModel):
    """Something that happened to a round."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    kind: str
    from_state: str | None
    to_state: str | None
    data: dict[str, Any]

    @field_validator("data")
    @classmethod
    def _told(cls, data: dict[str, Any]) -> dict[str, Any]:
        """All but the token by which a worker holds the round."""
        return {name: value for name, value in data.items() if name != "token"}


class RoundDetail(RoundOut):
    """A round with what happened to it and the end of the trainer's log."""

    log_tail: str | None
    events: list[EventOut]


class RoundPage(BaseModel):
    """Some rounds, newest first."""

    items: list[RoundOut]
    next_cursor: int | None = Field(description="Give it as `cursor` to go on; null at the end.")
