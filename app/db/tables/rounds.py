"""Rounds: the jobs that make versions, what they read, and what happened to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Round(Base):
    """A job that yields a version. Kind ``import`` brings in the base model as version 1; ``dpo`` trains.

    queued → preparing (snapshot frozen) → training → publishing → done; any of the active states → failed or
    cancelled; failed → queued (retry). Every change is guarded in SQL, and leaves a ``RoundEvent``.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index(
            "uq_rounds_active",
            "project_id",
            unique=True,
            postgresql_where=text("state in ('queued', 'preparing', 'training', 'publishing')"),
        ),
        CheckConstraint(
            "state in ('queued', 'preparing', 'training', 'publishing', 'done', 'failed', 'cancelled')",
            name="state_known",
        ),
        CheckConstraint("kind in ('import', 'dpo')", name="kind_known"),
        CheckConstraint("trigger in ('button', 'api', 'votes', 'schedule', 'setup')", name="trigger_known"),
        CheckConstraint("(lease_token is null) = (lease_expires_at is null)", name="lease_whole"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    number: Mapped[int]
    """Counts up within the project; the import of version 1 is round 0."""
    kind: Mapped[str] = mapped_column(default="dpo")
    trigger: Mapped[str]
    requested_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    state: Mapped[str] = mapped_column(default="queued")
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Training settings as they were when the round was requested."""
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    reference_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    """The version it made."""
    snapshot_hash: Mapped[str | None]
    """SHA-256 over the frozen examples, hexadecimal."""
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Of the snapshot: train and eval examples, ties, both bad, votes left out and why."""
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The trainer's latest figures."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Times a worker has claimed it."""
    lease_token: Mapped[UUID | None]
    """Fencing token of the worker that holds the round; every write of a worker names it."""
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    """What went wrong and what to do, for the admin."""
    log_tail: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RoundExample(Base):
    """One frozen preference of a round's snapshot: of two completions, a ranking of several, or of one alone.

    ``pair``: a and b with an outcome; ``ranking``: tiers, of which a is the first completion; ``label``: a alone,
    wanted or not.
    """

    __tablename__ = "round_examples"
    __table_args__ = (
        Index("ix_round_examples_comparison_id", "comparison_id"),
        CheckConstraint("split in ('train', 'eval')", name="split_known"),
        CheckConstraint("kind in ('pair', 'ranking', 'label')", name="kind_known"),
        CheckConstraint("outcome in ('a', 'b', 'tie', 'both_bad')", name="outcome_known"),
        CheckConstraint("(kind = 'pair') = (completion_b_id is not null and outcome is not null)", name="pair_whole"),
        CheckConstraint("(kind = 'ranking') = (tiers is not null)", name="ranking_whole"),
        CheckConstraint("(kind = 'label') = (desirable is not null)", name="label_whole"),
        CheckConstraint("weight >= 0", name="weight_range"),
    )

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(default="pair", server_default="pair")
    comparison_id: Mapped[UUID | None] = mapped_column(ForeignKey("comparisons.id"))
    prompt_id: Mapped[UUID] = mapped_column(ForeignKey("prompts.id"))
    completion_a_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    completion_b_id: Mapped[UUID | None] = mapped_column(ForeignKey("completions.id"))
    split: Mapped[str]
    outcome: Mapped[str | None]
    tiers: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Completion ids as texts, the best tier first: [["0193…"], ["0194…", "0195…"]]"""
    desirable: Mapped[bool | None]
    margin: Mapped[float] = mapped_column(default=0.0)
    weight: Mapped[float] = mapped_column(default=1.0)
    vote_ids: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID))
    adjudication_id: Mapped[UUID | None] = mapped_column(ForeignKey("adjudications.id"))
    """The decision that stood when it was frozen; null where the votes spoke."""


class RoundEvent(Base):
    """Something that happened to a round: every change of state, every claim, every failure."""

    __tablename__ = "round_events"
    __table_args__ = (Index("ix_round_events_round_id_at", "round_id", "at"),)

    id: Mapped[Id]
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"))
    at: Mapped[CreatedAt]
    kind: Mapped[str]
    """'state', 'claimed', 'lease_lost', 'retry', 'cancel_requested', 'note'"""
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
