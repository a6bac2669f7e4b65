"""Passwords: argon2id, at most two hashes at once; none that everybody tries first."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from zxcvbn import zxcvbn

from app.errors import DomainError, InvalidError
from app.language import _

MIN_CHARS = 10
MAX_CHARS = 1024
AT_ONCE = 2
"""A hash takes 19 MiB and a core for tens of milliseconds; more at once would let sign-ins stall the pages."""
WAIT_SECONDS = 8.0
RETRY_SECONDS = 5
"""When whoever was refused for want of a place is asked to come again."""

_WEAK_SCORE = 1
"""Of zxcvbn: found with less than a million guesses."""
_JUDGED_CHARS = 72
"""What follows makes no password weaker, and judging takes longer with each character."""

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_places = BoundedSemaphore(AT_ONCE)


class TooBusyError(DomainError):
    """So many sign-ins at this moment that waiting for one's turn took too long."""

    code = "busy"
    status = 503
    title = _("Very busy at this moment")

    @classmethod
    def now(cls) -> "TooBusyError":
        """What whoever has waited in vain is told."""
        return cls(
            _("Too many people are signing in at this moment."),
            mend=_("Try again in a few seconds."),
            retry_after_seconds=RETRY_SECONDS,
        )


def check_new_password(password: str, *, email: str) -> None:
    """
    Raises:
        InvalidError: too short, too long, the email address, or easy to guess.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidError(
            _(
                "The password has %(password)s characters; between %(min_chars)s and %(max_chars)s are needed.",
                password=len(password),
                min_chars=MIN_CHARS,
                max_chars=MAX_CHARS,
            ),
            mend=_(
                "Choose one of at least %(min_chars)s characters. A few random words are easy to remember.",
                min_chars=MIN_CHARS,
            ),
            field="password",
        )
    if password.lower() == email.lower():
        raise InvalidError(_("The password is the email address."), mend=_("Choose another one."), field="password")
    told = zxcvbn(password[:_JUDGED_CHARS], user_inputs=[email, *email.split("@"), "hone"])
    if told["score"] <= _WEAK_SCORE:
        raise InvalidError(
            _("The password is among those that are guessed first."),
            mend=_("Choose another one. A few random words are easy to remember and hard to guess."),
            field="password",
        )


def generate_password() -> str:
    """A password for somebody else to start with: 20 characters, 119 bits."""
    letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(letters) for _ in range(20))


def hash_password(password: str) -> str:
    """The argon2id hash in PHC form. Waits for one of the two places."""
    with _place():
        return _hasher.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password is right. Without a hash (no such user) as much work is done, and the answer is no."""
    with _place():
        try:
            _hasher.verify(password_hash or _nobodys_hash(), password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


@lru_cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe(32))


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise TooBusyError.now()
    try:
        yield
    finally:
        _places.release()
