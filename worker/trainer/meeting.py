"""Where the processes of a job find each other.

On one machine they meet in a file of the job directory, and what they listen on is the loopback interface. Those of
several machines meet at a port of the first one's, behind a name that only the job directory tells. Neither the file
nor the port holds anything that is unpickled.
"""

import contextlib
import errno
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from worker.trainer.errors import TrainerError
from worker.trainer.lifetime import Stop

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

VARIABLE = "TRAINER_MEETING"
"""The variable that tells a process where to meet: file:///path, or tcp://run@host:port. torchrun sets others."""
SECONDS = 900
"""How long the processes of a job wait for each other."""

_LOOK_SECONDS, _CONNECT_SECONDS = 0.1, 5.0
_PREFIX = ".meeting-"
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


class NotMetError(TrainerError):
    """Some process of the job did not come, or the place to meet cannot be used."""


@contextlib.contextmanager
def in_file(job: Path) -> Iterator[str]:
    """A place to meet for processes of this machine."""
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=job.absolute())
    os.close(descriptor)
    try:
        yield Path(name).as_uri()
    finally:
        Path(name).unlink(missing_ok=True)


def forget(job: Path) -> None:
    """Remove the places that launchers who were killed left behind; nobody may be at work in ``job``."""
    for left in job.glob(f"{_PREFIX}*"):
        left.unlink(missing_ok=True)


def at_port(address: str, run: str) -> str:
    """The place to meet for processes of several machines."""
    return f"tcp://{run}@{address}"


def loopback() -> dict[str, str]:
    """The environment in which Gloo and NCCL listen on the loopback interface, where none is named yet."""
    names = {name for _, name in socket.if_nameindex()}
    own = next((name for name in ("lo", "lo0") if name in names), None)
    return {} if own is None else {name: own for name in _INTERFACES if name not in os.environ}


def meet(place: str, rank: int, size: int, stop: Stop) -> "Store":
    """The store by which the processes get to know each other, once all of them are there.

    Raises:
        NotMetError: they are not, after ``SECONDS``; or nothing can listen or be reached at ``place``.
        StoppedError: a stop was asked for meanwhile.
    """
    url, deadline = urlsplit(place), time.monotonic() + SECONDS
    try:
        store = _store(url, rank, size, deadline, stop)
        store.set_timeout(timedelta(seconds=SECONDS))
        store.set(f"here-{rank}", "1")
        while not store.check([f"here-{other}" for other in range(size)]):
            _pause(deadline, stop)
    except (OSError, RuntimeError) as error:  # torch's own are RuntimeErrors
        where = f" at {url.hostname}:{url.port}; start 'hone node' on the others" if url.scheme == "tcp" else ""
        raise NotMetError(f"the {size} processes did not meet{where}: {error}") from error
    return store


def _store(url: SplitResult, rank: int, size: int, deadline: float, stop: Stop) -> "Store":
    from torch._C._distributed_c10d import FileStore, PrefixStore, TCPStore

    if url.scheme == "file":
        return FileStore(unquote(url.path), size)
    host, port, name = str(url.hostname), int(url.port or 0), str(url.username)
    own = _listener(host, port) if rank == 0 else None
    while rank != 0 and not _answers(host, port):
        _pause(deadline, stop)
    waits = timedelta(seconds=SECONDS)
    descriptor = None if own is None else own.detach()
    # The first process keeps the store, and reaches it as the others do.
    tcp = TCPStore(host, port, size, rank == 0, waits, wait_for_workers=False, master_listen_fd=descriptor)
    return PrefixStore(name, tcp)


def _pause(deadline: float, stop: Stop) -> None:
    """Wait here and not in torch, which hears no signal meanwhile."""
    stop.check("it had not begun")
    if time.monotonic() > deadline:
        raise TimeoutError(f"not all of them came within {SECONDS} seconds")
    time.sleep(_LOOK_SECONDS)


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
        return True
    return False


def _listener(host: str, port: int) -> socket.socket | None:
    """A socket that listens at ``host`` alone.

    None where that is no address of this machine (a forwarded port), or where the others would see another one: many
    systems call themselves 127.0.1.1. There it has to be every interface.
    """
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if ip_address(address[0]).is_loopback and host != "localhost" and not _is_address(host):
            continue
        try:
            return socket.create_server(address[:2], family=family)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
