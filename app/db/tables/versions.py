"""Versions: the models that rounds made."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Version(Base):
    """A published model. Its directory, and its name in the engine, is its id."""

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index("uq_versions_current", "project_id", unique=True, postgresql_where=text("state = 'current'")),
        CheckConstraint("state in ('candidate', 'current', 'retired', 'rejected')", name="state_known"),
        CheckConstraint("gate_state in ('open', 'passed', 'failed', 'ended')", name="gate_state_known"),
        CheckConstraint("gate_state is distinct from 'open' or state = 'candidate'", name="open_gate_has_candidate"),
        CheckConstraint("kind in ('full', 'adapter')", name="kind_known"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    number: Mapped[int]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    base_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    """The full version an adapter stands on; null for a full version."""
    state: Mapped[str]
    kind: Mapped[str]
    digest: Mapped[str]
    """SHA-256 of the manifest, hexadecimal."""
    context_length: Mapped[int]
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    served_by: Mapped[str | None]
    """Address of the engine that serves it, where that is not Hone's own; null: none that is known."""
    gate_state: Mapped[str | None]
    """open: people compare it with its parent, blind; passed or failed: the gate decided; ended: somebody or something
    else did first. Null: no blind comparisons were asked for."""
    created_at: Mapped[CreatedAt]
    promoted_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
