"""Handing wake-ups to the broker within a bound, whatever state the broker is in."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from app.journal.queues import TASK_QUEUES

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
"""After a failure nobody waits for the broker again for this long; the outbox keeps what is due."""

_SOCKET_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A task's name with its arguments (JSON values)."""

    task: str
    args: tuple[Any, ...] = ()
    request_id: str | None = field(default=None, compare=False, repr=False)
    """Of the request that asked for it (of the first, if several did): for the log, not for the task."""


class Publisher:
    """Sends through a thread of its own, for the broker's client may block for longer than anyone here can wait."""

    def __init__(self, broker_url: str, wait_seconds: float) -> None:
        self.wait_seconds = wait_seconds
        self._app = Celery("hone", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=_SOCKET_SECONDS,
            broker_transport_options={
                "socket_timeout": _SOCKET_SECONDS,
                "socket_connect_timeout": _SOCKET_SECONDS,
                "socket_keepalive": True,
            },
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._paused_until = 0.0

    def __call__(self, wakeups: Sequence[Wakeup]) -> int:
        """Send in order; how many were confirmed within ``wait_seconds``. Never raises for the broker's sake."""
        if time.monotonic() < self._paused_until:
            return 0
        sent: list[Wakeup] = []
        job = self._thread.submit(self._send, list(wakeups), sent)
        try:
            job.result(self.wait_seconds)
        except FutureTimeout:
            self._pause(f"no answer within {self.wait_seconds:g} s")
        except (KombuError, OSError) as error:
            self._pause(str(error))
        return len(sent)

    def close(self) -> None:
        """Let go of the connection and the thread; returns when a send under way has ended."""
        self._thread.shutdown(cancel_futures=True)
        self._app.close()

    def _send(self, wakeups: list[Wakeup], sent: list[Wakeup]) -> None:
        with self._app.producer_or_acquire(None) as producer:
            for wakeup in wakeups:
                if time.monotonic() < self._paused_until:
                    return
                self._app.send_task(
                    wakeup.task,
                    args=list(wakeup.args),
                    queue=TASK_QUEUES[wakeup.task],
                    headers={"request_id": wakeup.request_id},
                    producer=producer,
                    retry=False,
                    ignore_result=True,
                )
                sent.append(wakeup)

    def _pause(self, why: str) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        logger.warning("wake-ups wait in the outbox, the broker cannot be reached: %s", why)


_publishers: dict[tuple[int, str, float], Publisher] = {}
_lock = threading.Lock()


def publisher_for(broker_url: str, wait_seconds: float) -> Publisher:
    """The publisher of this process for that broker: connections and threads do not survive a fork."""
    key = (os.getpid(), broker_url, wait_seconds)
    with _lock:
        if key not in _publishers:
            _publishers[key] = Publisher(broker_url, wait_seconds)
        return _publishers[key]
