"""The product served for browser tests: real uvicorn, real Postgres, in a thread of the test process.

Nothing is replaced: the application is made by ``create_app`` from settings that point at the test's own database.
There is no engine and no worker behind it unless the settings say so; comparing needs neither.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.orm import Session

from app.accounts.identity import SESSION_COOKIE
from app.accounts.service import start_session
from app.db.session import SessionFactory, make_engine, make_session_factory, transaction
from app.db.tables import User
from app.main import create_app
from app.settings import Settings

START_SECONDS = 30


@dataclass
class LiveServer:
    """A running server, and the database behind it."""

    settings: Settings
    port: int
    factory: SessionFactory
    _socket: socket.socket
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def db(self) -> Iterator[Session]:
        """A transaction of the test's own, committed at the end."""
        with transaction(self.factory) as session:
            yield session

    def start(self) -> None:
        """Serve. Raises RuntimeError when it is not ready in time."""
        config = uvicorn.Config(
            create_app(self.settings),
            log_level="warning",
            lifespan="on",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        until = time.monotonic() + START_SECONDS
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise RuntimeError(f"the server did not start within {START_SECONDS} s")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop serving; open connections are closed."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=START_SECONDS)

    def cookie(self, user: User) -> dict[str, Any]:
        """A signed-in session of ``user``, as Playwright's ``add_cookies`` takes it."""
        with self.db() as session:
            _, key = start_session(session, session.merge(user), 14)
        return {"name": SESSION_COOKIE, "value": key, "url": self.url, "httpOnly": True, "sameSite": "Lax"}


@contextmanager
def serving(database_url: str, data: Path, **settings: Any) -> Iterator[LiveServer]:
    """A live server on ``database_url``; further ``settings`` as ``Settings`` takes them."""
    made = Settings(database_url=database_url, data=data, **{"database_pool_size": 5} | settings)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    engine = make_engine(made)
    server = LiveServer(made, listening.getsockname()[1], make_session_factory(engine), listening)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        listening.close()
        engine.dispose()
