"""Decisions about pairs on which reviewers contradict each other."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Adjudication(Base):
    """What an admin decided about a pair. One at most stands; a withdrawn one stays for the history."""

    __tablename__ = "adjudications"
    __table_args__ = (
        Index("uq_adjudications_standing", "comparison_id", unique=True, postgresql_where=text("withdrawn_at is null")),
        Index("ix_adjudications_comparison_id", "comparison_id"),
        Index("ix_adjudications_project_id_id", "project_id", "id"),
        CheckConstraint("outcome in ('a', 'b', 'tie', 'both_bad', 'leave')", name="outcome_known"),
        CheckConstraint(
            "strength is null or (outcome in ('a', 'b') and strength between 1 and 3)", name="strength_range"
        ),
        CheckConstraint("left_side in ('a', 'b')", name="left_side_known"),
        CheckConstraint("(withdrawn_at is null) = (withdrawn_by is null)", name="withdrawal_whole"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    comparison_id: Mapped[UUID] = mapped_column(ForeignKey("comparisons.id"))
    outcome: Mapped[str]
    """Of the comparison's own sides: 'a', 'b', 'tie', 'both_bad'; 'leave': the votes speak as they did."""
    strength: Mapped[int | None]
    """As in a vote."""
    note: Mapped[str]
    left_side: Mapped[str]
    """What was shown first to whoever decided, as answer A: their note speaks of that."""
    saw_votes: Mapped[bool]
    """What reviewers had said was shown before the decision."""
    decided_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[CreatedAt]
    withdrawn_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    withdrawn_at: Mapped[datetime | None]
