"""What is known of reviewers: pairs with a known answer, where each reviewer stands, and the edits they made."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Control(Base):
    """Two completions of one prompt of which the better one is known. Reviewers are shown copies of it."""

    __tablename__ = "controls"
    __table_args__ = (
        Index(
            "uq_controls_pair",
            func.least(text("completion_a_id"), text("completion_b_id")),
            func.greatest(text("completion_a_id"), text("completion_b_id")),
            unique=True,
        ),
        Index("ix_controls_project_id_kind", "project_id", "kind"),
        CheckConstraint("kind in ('gold', 'attention')", name="kind_known"),
        CheckConstraint("answer in ('a', 'b')", name="answer_known"),
        CheckConstraint("origin in ('admin', 'unanimous', 'made')", name="origin_known"),
        CheckConstraint("completion_a_id <> completion_b_id", name="two_completions"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str]
    """'gold': experts agree; 'attention': whoever reads sees it."""
    prompt_id: Mapped[UUID] = mapped_column(ForeignKey("prompts.id"))
    completion_a_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    completion_b_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    answer: Mapped[str]
    """The better completion: 'a' or 'b'."""
    origin: Mapped[str]
    """'admin' wrote it, reviewers were 'unanimous', or it was 'made' by putting an answer to another prompt."""
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("comparisons.id", use_alter=True))
    """The comparison it was promoted from."""
    note: Mapped[str] = mapped_column(default="")
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[CreatedAt]
    retired_at: Mapped[datetime | None]
    """From then on nobody is given it any more."""


class Standing(Base):
    """Where a reviewer stands in a project: what they were handed, whether they qualified, whether they are paused."""

    __tablename__ = "standings"
    __table_args__ = (
        CheckConstraint("qualification in ('open', 'passed', 'failed', 'waived')", name="qualification_known"),
        CheckConstraint("handed >= 0", name="handed_range"),
        CheckConstraint("daily_goal is null or daily_goal between 1 and 10000", name="daily_goal_range"),
        CheckConstraint("(paused_at is null) = (paused_reason is null)", name="pause_whole"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    handed: Mapped[int] = mapped_column(default=0, server_default="0")
    """Comparisons handed out while the project has checks, checks included."""
    schedule: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    """When the next check of each kind is due; see ``app.comparisons.checks``."""
    qualification: Mapped[str] = mapped_column(default="open", server_default="open")
    """'open': not decided; 'waived': let through by an admin. Means nothing where the project has no round."""
    qualification_reset_at: Mapped[datetime | None]
    """An admin had it decided again then: by gold pairs judged since, and by nothing that was before."""
    daily_goal: Mapped[int | None]
    """In place of the project's."""
    paused_at: Mapped[datetime | None]
    """In quarantine since: handed nothing, and their votes are set aside."""
    paused_reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Correction(Base):
    """The completion that a vote's corrected answer became, once the worker had tokenised it."""

    __tablename__ = "corrections"

    vote_id: Mapped[UUID] = mapped_column(ForeignKey("votes.id"), primary_key=True)
    completion_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    created_at: Mapped[CreatedAt]
