"""Failed sign-ins are counted in Postgres, by account and by address, so that guessing is slow on every process.

A browser in which the account has signed in before (``app.accounts.devices``) is refused for its own failures alone,
so that nobody who guesses elsewhere can lock the owner out.

The account is stored hashed (people type passwords into the wrong field). Attempts on one account wait for each other,
so that a burst sent at once is counted one by one.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import ColumnElement, and_, delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import LoginFailure
from app.errors import DomainError
from app.language import _, _n

WINDOW = timedelta(minutes=15)
PAIR_LIMIT = 5
"""Failures of one account from one address within the window."""
ACCOUNT_LIMIT = 30
"""Of one account from everywhere: whatever the number of addresses, no more guesses than these."""
ADDRESS_LIMIT = 60
"""From one address (IPv6: one /64) to all accounts: high enough for an office behind one router."""
DEVICE_LIMIT = 5
"""Of one account in one browser in which it has signed in before; none of the other limits hold there."""
_KEPT = timedelta(days=1)
_LOCK_WAIT = "3s"


class TooManyAttemptsError(DomainError):
    """Guessing, or somebody who has forgotten: wait."""

    code = "too_many_attempts"
    status = 429
    title = _("Too many attempts")


@dataclass(frozen=True)
class Attempts:
    """The recent failures that matter for one sign-in."""

    db: Session
    account: str
    address: str | None
    device_id: UUID | None = None
    """The browser, where the account has signed in before."""

    def check(self) -> None:
        """
        Raises:
            TooManyAttemptsError: a limit is reached; ``retry_after_seconds`` says when the oldest failure is forgotten.
        """
        self._one_at_a_time()
        if self.device_id is not None:
            self._limit(self._from_here(), DEVICE_LIMIT)
            return
        by_stranger = LoginFailure.device_id.is_(None)
        by_address = self._same_network()
        self._limit(by_stranger & (LoginFailure.account_hash == self._hash), ACCOUNT_LIMIT)
        if by_address is not None:
            self._limit(by_stranger & by_address, ADDRESS_LIMIT)
        self._limit(self._from_here(), PAIR_LIMIT)

    def failed(self) -> None:
        """Count one more failure, and forget those of the day before."""
        address, device_id = self._valid_address(), self.device_id
        self.db.add(LoginFailure(account_hash=self._hash, address=address, device_id=device_id, at=utcnow()))
        self.db.execute(delete(LoginFailure).where(LoginFailure.at < utcnow() - _KEPT))
        self.db.flush()

    def forget(self) -> None:
        """The password was right: this account's failures from here were typing errors."""
        self.db.execute(delete(LoginFailure).where(self._from_here()))

    @property
    def _hash(self) -> bytes:
        return _hash(self.account)

    def _from_here(self) -> ColumnElement[bool]:
        """Failures of this account in this browser where it is known; else by strangers at this address."""
        if self.device_id is not None:
            return LoginFailure.device_id == self.device_id
        by_address = self._same_network()
        return and_(
            LoginFailure.account_hash == self._hash,
            LoginFailure.device_id.is_(None),
            by_address if by_address is not None else LoginFailure.address.is_(None),
        )

    def _one_at_a_time(self) -> None:
        queue = self._hash if self.device_id is None else self.device_id.bytes[::-1]  # its end is the random part
        key = int.from_bytes(queue[:8], signed=True)
        try:
            with self.db.begin_nested():
                self.db.execute(text(f"set local lock_timeout = '{_LOCK_WAIT}'"))
                self.db.execute(select(func.pg_advisory_xact_lock(key)))
                self.db.execute(text("set local lock_timeout = 0"))
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            raise TooManyAttemptsError(
                _("Several people are trying to sign in to this account at this very moment."),
                mend=_("Try again in a few seconds."),
                retry_after_seconds=3,
            ) from error

    def _limit(self, which: ColumnElement[bool], limit: int) -> None:
        now = utcnow()
        count, oldest = self.db.execute(
            select(func.count(), func.min(LoginFailure.at)).where(which, LoginFailure.at > now - WINDOW)
        ).one()
        if count >= limit:
            raise TooManyAttemptsError(
                _(
                    "Signing in failed %(count)s times within %(minutes)s minutes; %(limit)s is the limit.",
                    count=count,
                    minutes=WINDOW.seconds // 60,
                    limit=limit,
                ),
                mend=self._mend(_minutes(oldest + WINDOW, now)),
                retry_after_seconds=max(1, int((oldest + WINDOW - now).total_seconds())),
            )

    def _mend(self, time: str) -> str:
        if self.device_id is not None:
            return _("Wait %(time)s, then try again. An admin can give you a new password.", time=time)
        return _(
            "Wait %(time)s, then try again, or use a browser in which you have signed in before. "
            "An admin can give you a new password.",
            time=time,
        )

    def _valid_address(self) -> str | None:
        valid = _parsed(self.address)
        return None if valid is None else str(valid)

    def _same_network(self) -> ColumnElement[bool] | None:
        network = network_of(self.address)
        return LoginFailure.address.op("<<=", is_comparison=True)(literal(network, INET)) if network else None


def forget_all(db: Session, account: str) -> None:
    """The account has another password: what was guessed before says nothing about it."""
    db.execute(delete(LoginFailure).where(LoginFailure.account_hash == _hash(account)))


def network_of(address: str | None) -> str:
    """Addresses that count as one: equal ones, or of one IPv6 /64, which is one customer. Empty: it is none."""
    valid = _parsed(address)
    return "" if valid is None else str(ip_network((valid, 64 if valid.version == 6 else 32), strict=False))


def _parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    """Without a zone (``fe80::1%eth0``), which Postgres does not store. IPv4 written as IPv6 is IPv4: all of it would
    be one /64."""
    try:
        valid = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    return (valid.ipv4_mapped if isinstance(valid, IPv6Address) else None) or valid


def _hash(account: str) -> bytes:
    return hashlib.sha256(account.encode()).digest()


def _minutes(until: datetime, now: datetime) -> str:
    minutes = max(1, round((until - now).total_seconds() / 60))
    return _n("a minute", "%(n)s minutes", minutes)
