"""Coroutines in tests. A browser driven by the same test process keeps an event loop running on its main thread."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on a thread of its own: its result, or what it raised."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
