"""The embedded Redis listens on one private socket and keeps what it was told through a kill."""

import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from app.local import ping
from app.local.errors import RedisError
from app.local.redis import EmbeddedRedis


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    yield made
    shutil.rmtree(made)


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket))


def test_it_is_private_and_survives_a_kill(folder: Path) -> None:
    server = EmbeddedRedis(folder).start()
    try:
        assert server.process is not None
        assert server.socket is not None
        assert psutil.Process(server.process.pid).net_connections("inet") == []
        for private in (server.socket, server.socket.parent, folder / "redis"):
            assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0, private
        with client(server) as connection:
            connection.set("kept", "1")
        time.sleep(1.1)  # appendfsync everysec
        server.process.kill()
        server.process.wait()
        server.start()
        with client(server) as connection:
            assert connection.get("kept") == b"1"
        assert ping.workers(server.url(), timeout_seconds=0.1) == []
    finally:
        server.stop()
    with pytest.raises(OSError, match="connecting to"):
        ping.workers(server.url(), timeout_seconds=0.1)


def test_a_data_directory_with_a_long_path_works_the_same(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    server = EmbeddedRedis(deep).start()
    try:
        assert server.socket is not None
        assert len(str(server.socket)) <= 107
        with client(server) as connection:
            assert connection.ping()
    finally:
        server.stop()
        shutil.rmtree(server.socket.parent if server.socket else folder)


def test_a_broken_file_is_said_to_be_one_and_what_to_do(folder: Path) -> None:
    (folder / "redis").mkdir(mode=0o700)
    (folder / "redis" / "appendonly.aof").write_bytes(b"*3\r\n$3\r\nSET\r\nthis is no append-only file\r\n" * 10)
    with pytest.raises(RedisError, match="holds no votes"):
        EmbeddedRedis(folder).start()
