"""People and their keys: users, sign-ins, API tokens, failed sign-ins."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, func
from sqlalchemy.dialects.postgresql import ARRAY, INET
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.db.base import Base, CreatedAt, Id


class User(Base):
    """A person (or a program acting as one). The email is stored in lower case."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_lower"),)

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(default="")
    password_hash: Mapped[str]
    is_site_admin: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
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


class LoginFailure(Base):
    """A failed sign-in, by account (as typed, hashed) and address: what throttling counts."""

    __tablename__ = "login_failures"
    __table_args__ = (
        Index("ix_login_failures_account_hash_at", "account_hash", "at"),
        Index("ix_login_failures_address_at", "address", "at"),
    )

    id: Mapped[Id]
    account_hash: Mapped[bytes] = mapped_column(LargeBinary)
    address: Mapped[str | None] = mapped_column(INET)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
