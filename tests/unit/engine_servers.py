"""Small real HTTP servers that answer as engines other than Hone's do, misbehave included."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def server(*parts: bytes, hold: bool = False) -> Iterator[str]:
    """A server that reads one request, sends ``parts`` and hangs up, or with ``hold`` says nothing more."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _read_request(connection)
                with suppress(BrokenPipeError, ConnectionResetError):  # a client that has seen enough hangs up
                    for part in parts:
                        connection.sendall(part)
                if hold:
                    ended.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def _read_request(connection: socket.socket) -> None:
    """All of it: closing a socket with bytes unread resets the connection, and what was sent may be lost."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk of a body of unknown length."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
