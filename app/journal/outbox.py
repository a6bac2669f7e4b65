"""Wake-ups for the worker: written in the transaction that makes them necessary, sent after it has committed.

A wake-up that cannot be sent stays here, and the next tick sends it; a wake-up that is sent twice finds nothing to do
the second time. Every task decides by what it reads in Postgres, never by the message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app import logs
from app.db.base import utcnow
from app.db.session import SessionFactory, transaction
from app.db.tables import OutboxMessage
from app.journal.publisher import Wakeup, publisher_for
from app.journal.queues import TASK_QUEUES
from app.settings import Settings

SEND_SECONDS = 1.0
"""Longest wait for the broker after a commit."""

_AGAIN_SECONDS = 5.0
"""A wake-up whose sending was not confirmed is due again after this."""
_BATCH = 500
_KEPT = timedelta(days=1)
_ENQUEUED = "outbox"

Publish = Callable[[Sequence[Wakeup]], int]
"""Sends wake-ups in order; returns how many of them, from the first on, went out."""


@dataclass(frozen=True, slots=True)
class _Claimed:
    ids: list[UUID]
    wakeup: Wakeup


def enqueue(db: Session, task: str, *args: Any) -> OutboxMessage:
    """Ask for ``task`` with ``args`` (ids become text) once this transaction has committed.

    Raises:
        ValueError: no such task.
    """
    if task not in TASK_QUEUES:
        raise ValueError(f"unknown task {task!r}; known are {', '.join(TASK_QUEUES)}")
    plain = [str(arg) if isinstance(arg, UUID) else arg for arg in args]
    message = OutboxMessage(task=task, args=plain, request_id=logs.request_id())
    db.add(message)
    db.flush()
    db.info[_ENQUEUED] = True
    return message


def enqueued(db: Session) -> bool:
    """Whether this session has put something in the outbox; asking clears the mark. For the boundary that commits."""
    return bool(db.info.pop(_ENQUEUED, False))


def send_pending(factory: SessionFactory, settings: Settings, *, publish: Publish | None = None) -> int:
    """Send what is due, equal wake-ups once; call after a commit. Returns how many rows were sent.

    Never raises for a broker that is down or slow, and never takes longer than about ``SEND_SECONDS``: what was not
    sent stays due. No transaction is open while sending.
    """
    if publish is None:
        if not settings.redis_url:  # nobody to tell; whoever starts a worker configures one
            return 0
        publish = publisher_for(settings.redis_url, SEND_SECONDS)
    claimed = _claim(factory)
    if not claimed:
        return 0
    count = publish([item.wakeup for item in claimed])
    sent = [id_ for item in claimed[:count] for id_ in item.ids]
    if sent:
        with transaction(factory) as db:
            db.execute(update(OutboxMessage).where(OutboxMessage.id.in_(sent)).values(sent_at=utcnow()))
    return len(sent)


def forget_sent(db: Session) -> int:
    """Delete what was sent more than a day ago; how many."""
    gone = delete(OutboxMessage).where(OutboxMessage.sent_at < utcnow() - _KEPT).returning(OutboxMessage.id)
    return len(db.scalars(gone).all())


def _claim(factory: SessionFactory) -> list[_Claimed]:
    """Take what is due, so that nobody else sends it at the same time; equal wake-ups become one."""
    now = utcnow()
    with transaction(factory) as db:
        due = (
            select(OutboxMessage.id)
            .where(OutboxMessage.sent_at.is_(None), OutboxMessage.due_at <= now)
            .order_by(OutboxMessage.id)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
        rows = db.execute(
            update(OutboxMessage)
            .where(OutboxMessage.id.in_(due.scalar_subquery()))
            .values(attempts=OutboxMessage.attempts + 1, due_at=now + timedelta(seconds=_AGAIN_SECONDS))
            .returning(OutboxMessage.id, OutboxMessage.task, OutboxMessage.args, OutboxMessage.request_id)
        ).all()
    claimed: dict[str, _Claimed] = {}
    for row in sorted(rows, key=lambda row: str(row.id)):
        wakeup = Wakeup(row.task, tuple(row.args), row.request_id)
        claimed.setdefault(repr(wakeup), _Claimed([], wakeup)).ids.append(row.id)
    return list(claimed.values())
