"""Two programs measured in turns: each in a process of its own that stays, and works only when it is asked to."""

import ctypes
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class Side:
    """A process beside this one; ``ask`` runs a function in it and waits for what it returns."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, threads), daemon=True)
        self._process.start()
        there.close()

    def ask(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What ``function``, of a module that the process can import, returns there.

        Raises:
            RuntimeError: it failed; with the traceback from there.
        """
        self._here.send((function, args, options))
        done, value = self._here.recv()
        if not done:
            raise RuntimeError(f"{function.__module__}.{function.__name__} failed:\n{value}")
        return value

    def close(self) -> None:
        """End the process."""
        self._here.close()
        self._process.join(10)
        self._process.terminate()


def _serve(pipe: Connection, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            function, args, options = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(*args, **options)
        except Exception:  # noqa: BLE001 - the other end raises it
            answer = False, traceback.format_exc()
        pipe.send(answer)


class Peak:
    """The most memory this process holds from here on; what its malloc keeps of earlier runs is given back first."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM begins anew
        self.before = _status("VmRSS")

    def mib(self) -> float:
        """MiB: of the GPU's memory, or resident in the machine's, libraries and model included."""
        import torch

        return torch.cuda.max_memory_allocated() / 2**20 if self._cuda else _status("VmHWM")


def _status(name: str) -> float:
    for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"this system tells no {name}; the bench needs Linux")
