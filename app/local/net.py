"""Ports and health questions on this machine. No proxy is ever asked."""

import errno
import http.client
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psutil

from app.local.errors import LocalError


def require_free_port(host: str, port: int) -> int:
    """``port`` if it can be listened on (a free one for 0).

    Raises:
        LocalError: it is taken (the message names who has it), not allowed, or ``host`` is no address of ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except socket.gaierror:
        raise LocalError(f"{host!r} is not an address of this machine: use --host 127.0.0.1 (only this machine) or "
                         "--host 0.0.0.0 (every interface)") from None  # fmt: skip
    except PermissionError:
        raise LocalError(f"port {port} is reserved for root: choose one of 1024 or above with --port") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise LocalError(f"cannot listen on {host}:{port}: {error.strerror}: check --host") from None
        raise LocalError(
            f"port {port} on {host} is taken{_who_listens(port)}: stop that, or choose another with --port "
            f"(--port {port + 1 if port < 65535 else 8000}; --port 0 takes any free one)"
        ) from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _who_listens(port: int) -> str:
    """Whom to stop: of several processes that share the socket, the one that started the others."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.pid and _listens(connection, port):
                process = psutil.Process(connection.pid)
                while (parent := process.parent()) and any(
                    _listens(one, port) for one in parent.net_connections("tcp")
                ):
                    process = parent
                return f" by {' '.join(process.cmdline())[:80]} (pid {process.pid})"
    except (psutil.Error, OSError):  # not ours to see
        pass
    return ""


def _listens(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,)


def status_of(url: str, path: str, *, headers: dict[str, str] | None = None, timeout_seconds: float = 3.0) -> int:
    """The HTTP status of GET ``url + path``; 0 when nothing answers."""
    return get(url, path, headers=headers, timeout_seconds=timeout_seconds)[0]


def get(
    url: str, path: str, *, headers: dict[str, str] | None = None, timeout_seconds: float = 3.0
) -> tuple[int, bytes]:
    """Status and body of GET ``url + path``; (0, reason) when nothing answers."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_seconds)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        connection.close()
