"""The playground: a question and its two blind answers, while nobody has judged them yet and after."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class PlaygroundTurn(Base):
    """A conversation with its two answers, seen by one person.

    new → streaming (one request writes the answers) → done, failed (a side has no answer) or left (the person went
    away unheard). A choice may come from streaming on; when the answers are whole it becomes a comparison and a vote.
    """

    __tablename__ = "playground_turns"
    __table_args__ = (
        Index("ix_playground_turns_user_id_created_at", "user_id", "created_at"),
        CheckConstraint("state in ('new', 'streaming', 'done', 'failed', 'left')", name="state_known"),
        CheckConstraint("choice is null or choice in ('a', 'b', 'tie', 'both_bad')", name="choice_known"),
        CheckConstraint("(choice is null) = (chosen_at is null)", name="choice_has_time"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("playground_turns.id", ondelete="SET NULL"))
    messages: Mapped[list[Any]]
    """The conversation so far, in canonical form; it ends with the person's turn."""
    sampling: Mapped[dict[str, Any]]
    left_version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"))
    right_version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"))
    state: Mapped[str] = mapped_column(default="new")
    answers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """By side, 'a' (left) and 'b': text, ids, prompt_ids, end, sampling; or error."""
    choice: Mapped[str | None]
    """As seen: 'a' is the left answer."""
    chosen_at: Mapped[datetime | None]
    seconds: Mapped[float | None]
    comparison_id: Mapped[UUID | None] = mapped_column(ForeignKey("comparisons.id"))
    """What the choice became; null before, and for good where two answers cannot be compared."""
    created_at: Mapped[CreatedAt]
