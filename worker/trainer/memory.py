"""What a process of the trainer asks of malloc, libgomp and oneDNN, and when it gives memory back after all.

Freed memory is kept for the next tensor: giving it back and taking it anew costs a page fault every 4 KiB. Kept
without end it grows, as what lives long comes to lie between what is freed: by 100 MB a step, where each step's
products had shapes of their own and oneDNN kept a thousand of the programs it wrote for them, at 0.4 MB each.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from worker.onednn import PROGRAMS

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""glibc's, from malloc.h."""
GROWTH = 64 << 20
"""Bytes by which the heap grows at least."""
THREADS_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
"""The environment in which threads wait for each other awake for some microseconds, and asleep after that.

Those that spin as long as libgomp lets them stand still where another process wants the same cores: a step took 1.6 s
in place of 20 ms beside a busy engine. Those that sleep at once have to be woken for the next operator, thousands of
times a second: on two idle cores a step took a fifth longer.
"""
ENVIRONMENT = THREADS_WAIT | PROGRAMS
ALLOWED = 1.25
"""Memory is given back when it has grown by more than this over what a step needs."""


def set_environment() -> None:
    """Set what libgomp and oneDNN read when torch is loaded, where the environment does not say otherwise."""
    os.environ.update(ENVIRONMENT | os.environ)


@cache
def heap() -> "Heap":
    """The one of this process."""
    return Heap()


class Heap:
    """The memory that this process's malloc holds, in use or not."""

    def __init__(self) -> None:
        self._keeps = False
        self._needed = 0
        self._measure = True

    def keep_freed(self) -> bool:
        """Let malloc keep what is freed and grow in large steps; whether it is a malloc that can.

        A tensor of more than 32 MiB, such as a chunk of logits, is else mapped and unmapped each time, which takes a
        third of the time of the product that fills it. ``settle`` holds it within bounds.
        """
        mallopt, trim = _glibc("mallopt"), _glibc("malloc_trim")
        if mallopt is None or trim is None:
            return False
        self._keeps = all(mallopt(name, value) == 1 for name, value in _OPTIONS)
        return self._keeps

    def settle(self) -> bool:
        """Between passes: give freed memory back if more is held than a pass or step needs; whether it was.

        What is needed is what was held after the first, and after the first since memory was last given back.
        """
        trim = _glibc("malloc_trim")
        if not self._keeps or trim is None:
            return False
        held = _held()
        if self._measure:
            self._needed, self._measure = max(self._needed, held), False
        if held <= ALLOWED * self._needed:
            return False
        trim(0)
        self._measure = True
        return True


_OPTIONS = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, GROWTH))


@cache
def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc's malloc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def _held() -> int:
    """Bytes of this process's memory that no file stands behind."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split())
    return (resident - shared) * resource.getpagesize()
