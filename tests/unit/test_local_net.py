"""Ports: who has one that is taken."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from app.local import net
from app.local.errors import LocalError

SHARED = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""
"""A server that shares its socket with a child, as uvicorn does with several processes."""


def test_a_taken_port_names_whom_to_stop() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LocalError, match=rf"port {port} on 127\.0\.0\.1 is taken by .*\(pid {os.getpid()}\)"):
            net.require_free_port("127.0.0.1", port)


def test_of_processes_that_share_a_port_the_parent_is_named() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SHARED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            with pytest.raises(LocalError, match=rf"\(pid {server.pid}\)"):
                net.require_free_port("127.0.0.1", port)
        finally:
            server.stdin.close()
