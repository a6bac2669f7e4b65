"""Wait for something that another process, thread or browser brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(ask: Callable[[], T], seconds: float = 60, what: str | Callable[[], str] = "it", *, every: float = 0.05) -> T:
    """Ask until the answer is true, and return that answer.

    ``what`` names what is awaited, or makes the whole message when the time is over: the state then is what explains
    it. Raises AssertionError after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about in {seconds} s" if isinstance(what, str) else what())
        time.sleep(every)
