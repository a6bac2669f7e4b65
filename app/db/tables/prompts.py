"""Prompts, and the completions that versions gave to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id


class Prompt(Base):
    """A conversation that ends with a user's turn. Equal conversations of a project are one row."""

    __tablename__ = "prompts"
    __table_args__ = (
        UniqueConstraint("project_id", "digest"),
        Index("ix_prompts_project_id_sampled_count", "project_id", "sampled_count"),
        CheckConstraint("source in ('api', 'file', 'form', 'chat', 'demo', 'playground')", name="source_known"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the canonical conversation."""
    messages: Mapped[list[Any]]
    """[{"role": "system" | "user" | "assistant", "content": text}, …]"""
    held_out: Mapped[bool] = mapped_column(default=False)
    """Its votes evaluate and never train. Decided by the digest, so it never changes."""
    source: Mapped[str]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    sampled_count: Mapped[int] = mapped_column(default=0)
    problem: Mapped[str | None]
    """Why it cannot be sampled (too long for the model, for example); such prompts are passed over and shown."""
    created_at: Mapped[CreatedAt]
    archived_at: Mapped[datetime | None]


class PromptUpload(Base):
    """A file of prompts that somebody uploaded, and what became of its rows. The file itself is not kept."""

    __tablename__ = "prompt_uploads"
    __table_args__ = (Index("ix_prompt_uploads_project_id_id", "project_id", "id"),)

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    filename: Mapped[str]
    all_or_nothing: Mapped[bool]
    """What the user chose: one bad row refuses the whole file, or the good rows are kept."""
    created_count: Mapped[int]
    existing_count: Mapped[int]
    """Rows equal to a prompt that was there already, or to an earlier row."""
    refused_count: Mapped[int]
    """Bad rows."""
    dropped_count: Mapped[int] = mapped_column(default=0)
    """Good rows that were not kept because of the bad ones."""
    errors: Mapped[list[Any]] = mapped_column(default=list)
    """[{"line", "message"}, …] of the bad rows, the first few thousand."""
    created_at: Mapped[CreatedAt]


class Completion(Base):
    """An answer to a prompt: its text and the very token ids that were sampled."""

    __tablename__ = "completions"
    __table_args__ = (
        Index("ix_completions_prompt_id", "prompt_id"),
        Index("ix_completions_version_id", "version_id"),
        Index("ix_completions_spare", "project_id", "version_id", "prompt_id", postgresql_where=sql("spare")),
        CheckConstraint("\"end\" in ('eos', 'stop', 'length', 'human')", name="end_known"),
        CheckConstraint("(version_id is null) = (\"end\" = 'human')", name="human_has_no_version"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    prompt_id: Mapped[UUID] = mapped_column(ForeignKey("prompts.id"))
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    text: Mapped[str]
    prompt_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    """The prompt as the model saw it, template included."""
    ids: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    """The sampled ids, the end token included if the model gave one."""
    end: Mapped[str]
    sampling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """temperature, top_p, top_k, max_tokens, stop, seed, n, and the completion's index among the n."""
    scores: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=sql("'{}'"))
    """Measured at sampling where the strategy asks: logp and reference_logp (nats, summed over ``ids``), reference (a
    version's id), beta, and reward, the implicit reward that the loss means: mostly beta (logp - reference_logp)."""
    spare: Mapped[bool] = mapped_column(default=False, server_default=sql("false"))
    """Sampled by the refill, and neither put into a comparison nor passed over by a strategy yet."""
    created_at: Mapped[CreatedAt]
