"""What is to be sent, and what was done by whom."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class OutboxMessage(Base):
    """A wake-up for the worker, written in the transaction that makes it necessary and sent after its commit."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_unsent", "due_at", postgresql_where=text("sent_at is null")),)

    id: Mapped[Id]
    task: Mapped[str]
    args: Mapped[list[Any]] = mapped_column(default=list)
    request_id: Mapped[str | None]
    """Of the request that asked for it, for the log; null where the system itself did."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    attempts: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class Tick(Base):
    """When the reconciler last began to look. One row, once there was a tick."""

    __tablename__ = "ticks"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]


class AuditEntry(Base):
    """Who did what: every act that changes settings, people, versions or rounds."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_project_id_at", "project_id", "at"),
        Index("ix_audit_log_actor_id_at", "actor_id", "at"),
    )

    id: Mapped[Id]
    at: Mapped[CreatedAt]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """Null where the system itself acted."""
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    action: Mapped[str]
    """For example 'version.promote'."""
    subject: Mapped[str]
    """What it was done to: a kind and an id, 'version:0193…'."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
