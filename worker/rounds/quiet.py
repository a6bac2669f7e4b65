"""Putting the engine to sleep while a round trains, where both share one device."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

from app.errors import DomainError
from worker.context import Context

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it is looked whether the engine still sleeps: one that died comes back awake, on the trainer's device."""

_ANSWER_SECONDS = 3.0


@contextmanager
def engine_asleep(context: Context) -> Iterator[None]:
    """The engine sleeps while the block lasts. One that cannot (or is not there) does not stop the round."""
    if not context.settings.engine_sleeps_in_rounds or not context.settings.engine_url:
        yield
        return
    try:
        with context.engine() as engine:
            engine.sleep()
    except DomainError as error:
        logger.warning("the engine does not go to sleep, training goes on beside it: %s", error)
    over = threading.Event()
    keeping = threading.Thread(
        target=copy_context().run, args=(_keep_asleep, context, over), name="engine-asleep", daemon=True
    )
    keeping.start()
    try:
        yield
    finally:
        over.set()
        keeping.join()
        wake(context)


def _keep_asleep(context: Context, over: threading.Event) -> None:
    """Put it to sleep again whenever it is found awake, until the round is ``over``."""
    while not over.wait(LOOK_SECONDS):
        try:
            with context.engine(at_most_seconds=_ANSWER_SECONDS) as engine:
                if engine.is_sleeping() or over.is_set():
                    continue
                logger.info("the engine is awake while a round trains (was it started again?): it goes to sleep")
                engine.sleep()
        except DomainError as error:
            logger.debug("whether the engine sleeps cannot be seen now: %s", error)


def wake(context: Context) -> bool:
    """Wake the engine; whether it could be told. The next refill tries again if not."""
    try:
        with context.engine() as engine:
            engine.wake()
    except DomainError as error:
        logger.warning("the engine cannot be woken now: %s", error)
        return False
    return True
