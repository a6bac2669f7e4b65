"""What a process of the trainer asks of malloc and of libgomp, before torch is loaded.

Freed memory is kept for the next tensor: giving it back and taking it anew costs a page fault every 4 KiB.
"""

import ctypes
import sys

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


def keep_freed() -> bool:
    """Let this process's malloc keep what is freed and grow in large steps; whether it is a malloc that can.

    A tensor of more than 32 MiB, such as a chunk of logits, is else mapped and unmapped each time, which takes a
    third of the time of the product that fills it. The process as a whole holds no more than at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, value) == 1 for name, value in _OPTIONS)


_OPTIONS = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, GROWTH))
