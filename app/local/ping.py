"""Asking a Redis, and the Celery workers on it, whether they are there. Never imports the worker's application."""

import redis
from celery import Celery
from kombu.exceptions import OperationalError


def client(redis_url: str) -> redis.Redis:
    """A client with short patience, from an address as Celery takes it.

    Raises:
        ValueError: no address of a Redis.
    """
    url = redis_url.replace("redis+socket://", "unix://")
    return redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3)


def redis_problem(redis_url: str) -> str:
    """Why it does not answer; empty when it does."""
    try:
        with client(redis_url) as asking:
            asking.ping()
    except (redis.RedisError, ValueError) as error:
        return str(error).rstrip(".")
    return ""


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
