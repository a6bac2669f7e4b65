"""Browsers in which somebody has signed in: a cookie says so, and guesses made elsewhere do not lock these out.

The cookie outlives sign-ins and signs nobody in; all it changes is by whose failures a sign-in is refused
(``app.accounts.throttle``). One browser has one key, whoever has signed in with it; each sign-in replaces the key, so
that one which somebody planted or copied before is worth nothing afterwards.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import keys
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Device, User

KEPT = timedelta(days=400)
"""Without another sign-in; browsers keep no cookie for longer."""
MAX_DEVICES = 50
"""Of one person; those of the longest ago are forgotten first."""


def known_device(db: Session, *, key: str | None, account: str) -> UUID | None:
    """The row that says that ``account`` has signed in in this browser; None: it never has."""
    if key is None:
        return None
    known = select(Device.id).join(User, User.id == Device.user_id)
    return db.scalar(
        known.where(Device.key_hash == keys.digest(key), User.email == account, Device.used_at > utcnow() - KEPT)
    )


def remember_device(db: Session, user: User, *, key: str | None) -> str:
    """The user has signed in in the browser that showed ``key``: the key that it has from now on."""
    new, now = keys.new_session_key(), utcnow()
    if key is not None:
        db.execute(update(Device).where(Device.key_hash == keys.digest(key)).values(key_hash=keys.digest(new)))
    row = insert(Device).values(id=new_id(), key_hash=keys.digest(new), user_id=user.id, used_at=now)
    db.execute(row.on_conflict_do_update(index_elements=["key_hash", "user_id"], set_={"used_at": now}))
    latest = select(Device.id).where(Device.user_id == user.id).order_by(Device.used_at.desc()).limit(MAX_DEVICES)
    old = (Device.used_at < now - KEPT) | Device.id.not_in(latest)
    db.execute(delete(Device).where(Device.user_id == user.id, old).execution_options(synchronize_session=False))
    return new


def forget_devices(db: Session, user: User, *, but_key: str | None = None) -> None:
    """The user's other browsers are like any stranger's again."""
    here = keys.digest(but_key) if but_key is not None else None
    others = delete(Device).where(Device.user_id == user.id, func.coalesce(Device.key_hash != here, True))
    db.execute(others.execution_options(synchronize_session=False))
