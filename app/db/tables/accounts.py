"""People and their keys: users, sign-ins, browsers, API tokens, failed sign-ins."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, INET
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, CreatedAt, Id


class User(Base):
    """A person (or a program acting as one). The email is stored in lower case."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint("language in ('en', 'de', 'ar')", name="language_known"),
    )

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(default="")
    password_hash: Mapped[str]
    is_site_admin: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    language: Mapped[str | None]
    """In which pages are read; null: what the browser asks for."""
    created_at: Mapped[CreatedAt]


class UserSession(Base):
    """A sign-in in a browser: an opaque random key in the cookie, its SHA-256 here."""

    __tablename__ = "sessions"

    id: Mapped[Id]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ApiToken(Base):
    """A key for programs. Shown once; its SHA-256 is kept, and a prefix by which people recognise it."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        CheckConstraint("keeps in ('nothing', 'prompts', 'answers')", name="keeps_known"),
        CheckConstraint("requests_per_minute is null or requests_per_minute >= 1", name="requests_per_minute_range"),
        CheckConstraint("tokens_per_day is null or tokens_per_day >= 1", name="tokens_per_day_range"),
    )

    id: Mapped[Id]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    keeps: Mapped[str] = mapped_column(default="nothing", server_default="nothing")
    """What is kept of the chats held with it: 'nothing', 'prompts' (the conversation), or 'answers' as well."""
    requests_per_minute: Mapped[int | None]
    """Of the door for API clients; null: what the installation allows."""
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    """Read and written by models, UTC days; null: what the installation allows."""


class ApiUsage(Base):
    """What a token has used of what it may use, and a person with all of theirs: one row each, changed in place."""

    __tablename__ = "api_usage"

    caller_id: Mapped[UUID] = mapped_column(primary_key=True)
    """The token's id, or the person's."""
    allowed_at: Mapped[datetime]
    """When a caller who never paused could send the next request: the "theoretical arrival time" of GCRA."""
    day: Mapped[date]
    """The UTC day that ``day_tokens`` counts."""
    day_tokens: Mapped[int] = mapped_column(BigInteger, default=0)


class Device(Base):
    """A browser in which somebody has signed in, a row for each person. The key is in its cookie, the SHA-256 here."""

    __tablename__ = "devices"
    __table_args__ = (UniqueConstraint("key_hash", "user_id"),)

    id: Mapped[Id]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    used_at: Mapped[datetime]
    """The last sign-in."""


class LoginFailure(Base):
    """A failed sign-in, by account (as typed, hashed) and address, or by a known browser: what throttling counts."""

    __tablename__ = "login_failures"
    __table_args__ = (
        Index("ix_login_failures_account_hash_at", "account_hash", "at"),
        Index("ix_login_failures_address_at", "address", "at"),
        Index("ix_login_failures_device_id", "device_id", postgresql_where=text("device_id is not null")),
    )

    id: Mapped[Id]
    account_hash: Mapped[bytes] = mapped_column(LargeBinary)
    address: Mapped[str | None] = mapped_column(INET)
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    """Where the account had signed in before: counted for that browser alone."""
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
