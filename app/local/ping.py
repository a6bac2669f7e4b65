"""Asking the Celery workers on a Redis who of them is there. The product never imports the worker's application."""

import redis
from celery import Celery
from kombu.exceptions import OperationalError


def workers(redis_url: str, timeout_seconds: float) -> list[str]:
    """Names of the workers that answer within ``timeout_seconds``.

    Raises:
        OSError: Redis does not answer.
    """
    try:
        with Celery(broker=redis_url, set_as_current=False) as asking:
            asking.conf.broker_connection_retry = False
            answers = asking.control.ping(timeout=timeout_seconds)
    except (OperationalError, redis.RedisError) as error:
        raise OSError(str(error)) from error
    return sorted(name for answer in answers or [] for name in answer)
