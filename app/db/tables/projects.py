"""Projects and who belongs to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Project(Base):
    """One alignment effort: prompts, reviewers, versions, and how they go together."""

    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="slug_form"),
        CheckConstraint("votes_per_comparison between 1 and 50", name="votes_per_comparison_range"),
        CheckConstraint("buffer_size between 1 and 10000", name="buffer_size_range"),
        CheckConstraint("lease_seconds between 10 and 86400", name="lease_seconds_range"),
        CheckConstraint("held_out_percent between 0 and 50", name="held_out_percent_range"),
        CheckConstraint("min_round_votes >= 2", name="min_round_votes_range"),
        CheckConstraint("round_every_votes is null or round_every_votes >= 2", name="round_every_votes_range"),
        CheckConstraint("feedback in ('ignore', 'train', 'count')", name="feedback_known"),
        CheckConstraint("promotion in ('manual', 'after_round', 'gate')", name="promotion_known"),
    )

    id: Mapped[Id]
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    guidelines: Mapped[str] = mapped_column(default="")
    guidelines_number: Mapped[int] = mapped_column(default=1, server_default="1")
    """Of what reviewers are told and asked at present: ``guidelines`` and ``reviewing``; see ``Guidelines``."""
    base_model: Mapped[str]
    """A local directory or a hub id: where version 1 comes from."""
    sampling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """temperature, top_p, top_k, max_tokens, stop."""
    refilling: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What ``app.projects.refilling.RefillSettings`` reads."""
    gate: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What ``app.projects.refilling.GateSettings`` reads."""
    training: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What ``app.rounds.spec.TrainingSettings`` reads."""
    reviewing: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What ``app.projects.reviewing.Reviewing`` reads: what reviewers are asked, and how."""
    queue: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What ``app.projects.queue.QueueSettings`` reads: order, checks, qualification, goals."""
    queue_order: Mapped[str] = mapped_column(default="oldest", server_default="oldest")
    """The order by which the slots in the queue are keyed at present; see ``app.comparisons.stock``."""
    aggregation: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What ``app.projects.aggregation.Aggregation`` reads: how votes become preferences."""
    reviewers_looked_at: Mapped[datetime | None]
    """When reviewers were last looked at for bad faith by the worker."""
    votes_per_comparison: Mapped[int] = mapped_column(default=1)
    buffer_size: Mapped[int] = mapped_column(default=24)
    """Ready comparisons that refill keeps at least."""
    lease_seconds: Mapped[int] = mapped_column(default=900)
    feedback: Mapped[str] = mapped_column(default="train", server_default="train")
    """What API clients' feedback is for: 'ignore', 'train', or 'count' (train, and fill reviewers' places too)."""
    held_out_percent: Mapped[int] = mapped_column(default=10)
    min_round_votes: Mapped[int] = mapped_column(default=10)
    round_every_votes: Mapped[int | None]
    round_schedule: Mapped[str | None]
    """Crontab, five fields, UTC."""
    next_round_at: Mapped[datetime | None]
    promotion: Mapped[str] = mapped_column(default="manual")
    refill_target: Mapped[int | None]
    """Ready comparisons that refill keeps at the pace last measured; null: ``buffer_size``."""
    refill_problem: Mapped[str | None]
    """Why the buffer cannot be filled at present, for admins to read."""
    refill_last_error: Mapped[str | None]
    """The latest problem, kept after it is over."""
    refill_last_error_at: Mapped[datetime | None]
    refill_failures: Mapped[int] = mapped_column(default=0)
    refill_due_at: Mapped[datetime | None]
    """Backoff: not before this. Null: whenever the buffer is low."""
    refill_lease_until: Mapped[datetime | None]
    """A worker is filling the buffer until then."""
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[CreatedAt]
    archived_at: Mapped[datetime | None]


class Guidelines(Base):
    """What reviewers were told and asked, as it stood until it changed and stands since. Rows are only ever added."""

    __tablename__ = "guidelines"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """1, 2, …; of the present ones there is a row once they have followed others."""
    text: Mapped[str]
    reviewing: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]


class GuidelinesRead(Base):
    """Which guidelines a reviewer has before them or has said to have read, the latest of a project."""

    __tablename__ = "guidelines_read"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    number: Mapped[int]
    read_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Membership(Base):
    """A person's role in a project."""

    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint("role in ('admin', 'reviewer')", name="role_known"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str]
    created_at: Mapped[CreatedAt]
