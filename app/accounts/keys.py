"""Opaque keys: of sessions and of API tokens. Their SHA-256 is what is stored; 256 random bits need no slow hash."""

import hashlib
import secrets

TOKEN_PREFIX = "hone_"  # noqa: S105 - the public part, by which secret scanners know it
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_CHARS = 43
"""43 characters of base62 are 256 bits."""


def new_session_key() -> str:
    """256 bits, for a cookie."""
    return secrets.token_urlsafe(32)


def new_csrf_token() -> str:
    """192 bits, for forms of one session."""
    return secrets.token_urlsafe(24)


def new_token_secret() -> str:
    """``hone_`` and 256 bits in base62, so that it can be double-clicked and found by secret scanners."""
    return TOKEN_PREFIX + "".join(secrets.choice(_BASE62) for _ in range(_TOKEN_CHARS))


def digest(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).digest()


def visible_prefix(secret: str) -> str:
    """By what people recognise a token: its first nine characters."""
    return secret[: len(TOKEN_PREFIX) + 4]
