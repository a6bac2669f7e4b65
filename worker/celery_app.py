"""The Celery application: ``celery -A worker.celery_app worker``. The one place where the worker reads its settings.

Redis only wakes; what is to be done is in Postgres. So results are not kept, messages are acknowledged before the
work (a redelivered one finds nothing to do), and a wiped Redis is refilled by the next tick. Neither the parent
process nor its children import torch: models live in subprocesses.
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task, signals
from kombu import Queue

from app import logs
from app.journal.queues import REFILL, REFILL_QUEUE, ROUNDS_QUEUE, TASK_QUEUES, TICK
from app.settings import Settings
from worker.context import Context, StopFlag

logger = logging.getLogger(__name__)

SOFT_SHUTDOWN_SECONDS = 12.0
"""After a warm stop turned cold, running jobs get this long to come to an end."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

settings = Settings()
stopping = StopFlag()
_context: Context | None = None
_parent = os.getpid()
_began = 0.0


def configure(celery: Celery, settings: Settings) -> None:
    """Broker, queues, beat."""
    celery.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
        task_queues=[Queue(ROUNDS_QUEUE), Queue(REFILL_QUEUE)],
        task_default_queue=REFILL_QUEUE,
        task_routes={task: {"queue": queue} for task, queue in TASK_QUEUES.items()},
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_concurrency=3,  # a round occupies one process for hours, the others refill
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_SECONDS,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2.0,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5.0,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        result_backend_transport_options={"visibility_timeout": 3600},
        beat_schedule={
            "tick": {
                "task": TICK,
                "schedule": settings.reconcile_seconds,
                # A tick that was not picked up before the next ones is worth nothing.
                "options": {"queue": REFILL_QUEUE, "expires": 3 * settings.reconcile_seconds},
            }
        },
        beat_max_loop_interval=min(5.0, settings.reconcile_seconds),
    )


def context() -> Context:
    """The context of this process. Raises RuntimeError in the parent, which does no work."""
    if _context is None:
        raise RuntimeError("this process runs no jobs: its context is built when a pool process starts")
    return _context


app = Celery("hone", broker=settings.redis_url or None, include=["worker.tasks"])
configure(app, settings)


@signals.setup_logging.connect
def _set_up_log(loglevel: int = logging.INFO, **_: Any) -> None:
    """As all processes log; with this, Celery does not set up a log of its own."""
    logs.configure(settings.log_format, loglevel)
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
        logging.getLogger(name).setLevel(max(loglevel, logging.WARNING))  # two or three lines for each tick


@signals.task_prerun.connect
def _begin_task(task: Task[Any, Any], args: Sequence[Any] = (), **_: Any) -> None:
    global _began
    _began = time.monotonic()
    project = str(args[0]) if task.name == REFILL and args else None
    logs.start(task=task.name, request_id=task.request.get("request_id"), project=project)


@signals.task_postrun.connect
def _end_task(task: Task[Any, Any], state: str | None = None, **_: Any) -> None:
    level = logging.DEBUG if task.name == TICK else logging.INFO
    logger.log(level, "%s: %s after %.1f s", task.name, state, time.monotonic() - _began)
    logs.start()


@signals.worker_process_init.connect
def _start_process(**_: Any) -> None:
    global _context
    _end_with_parent()
    _context = Context.build(settings, stopping)


@signals.worker_process_shutdown.connect
def _stop_process(**_: Any) -> None:
    if _context is not None:
        _context.close()


@signals.worker_ready.connect
def _look_at_once(**_: Any) -> None:
    """What waited for a worker need not wait for the first tick of beat as well."""
    app.send_task(TICK, expires=3 * settings.reconcile_seconds)


@signals.worker_shutting_down.connect
def _stop_jobs(how: str = "", **_: Any) -> None:
    stopping.set()
    logger.info("%s shutdown: rounds write a checkpoint and go on in the next worker", how)


def _end_with_parent() -> None:
    """Have the kernel end this process when the worker's parent is killed; Celery would let it live on alone."""
    if sys.platform == "linux" and os.getpid() != _parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != _parent:  # it died before
            os._exit(1)
