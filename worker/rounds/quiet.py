"""Putting the engine to sleep while a round trains, where both share one device."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import DomainError
from worker.context import Context

logger = logging.getLogger(__name__)


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
    try:
        yield
    finally:
        wake(context)


def wake(context: Context) -> bool:
    """Wake the engine; whether it could be told. The next refill tries again if not."""
    try:
        with context.engine() as engine:
            engine.wake()
    except DomainError as error:
        logger.warning("the engine cannot be woken now: %s", error)
        return False
    return True
