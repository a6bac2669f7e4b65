"""Answers that API clients got, and what they said of single ones."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Chat(Base):
    """An answered request of an API client whose token keeps answers. Its id is the one the client was given."""

    __tablename__ = "chats"
    __table_args__ = (Index("ix_chats_project_id_id", "project_id", "id"),)

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    token_id: Mapped[UUID] = mapped_column(ForeignKey("api_tokens.id"))
    prompt_id: Mapped[UUID] = mapped_column(ForeignKey("prompts.id"))
    created_at: Mapped[CreatedAt]


class ChatAnswer(Base):
    """One of a request's answers, by its index among the ``n``. Answers that cannot be kept (empty ones) have none."""

    __tablename__ = "chat_answers"
    __table_args__ = (UniqueConstraint("completion_id"),)

    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id"), primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    completion_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))


class CompletionLabel(Base):
    """One revision of a thumbs-up or -down on an answer. Rows are only ever added; the latest one counts."""

    __tablename__ = "completion_labels"
    __table_args__ = (
        UniqueConstraint("completion_id", "user_id", "revision"),
        Index(
            "uq_completion_labels_idempotency",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
        Index("ix_completion_labels_project_id_created_at", "project_id", "created_at"),
        CheckConstraint("source in ('feedback')", name="source_known"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    completion_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    revision: Mapped[int]
    desirable: Mapped[bool | None]
    """True for up, False for down, null: taken back."""
    comment: Mapped[str | None]
    source: Mapped[str] = mapped_column(default="feedback")
    idempotency_key: Mapped[str | None]
    created_at: Mapped[CreatedAt]
