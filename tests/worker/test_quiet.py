"""The engine sleeps for as long as a round trains, whatever becomes of it meanwhile."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.db.session import make_engine, make_session_factory
from app.settings import Settings
from tests.waiting import until
from worker.context import Context
from worker.rounds import quiet


class SleepyEngine(ThreadingHTTPServer):
    """Answers what concerns its sleep, and notes what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asleep = False
        self.told: list[str] = []


class Answer(BaseHTTPRequestHandler):
    """One request to it."""

    server: SleepyEngine

    def do_GET(self) -> None:
        self._say({"is_sleeping": self.server.asleep})

    def do_POST(self) -> None:
        self.server.asleep = self.path == "/sleep"
        self.server.told.append(self.path)
        self._say({})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""

    def _say(self, answer: dict[str, bool]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def engine() -> Iterator[SleepyEngine]:
    with SleepyEngine() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_an_engine_that_comes_back_awake_during_a_round_is_put_to_sleep_again(
    engine: SleepyEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "LOOK_SECONDS", 0.02)
    settings = Settings(
        database_url=f"postgresql://nobody@/none?host={tmp_path}",
        engine_url=f"http://127.0.0.1:{engine.server_port}",
    )
    context = Context(settings, make_session_factory(make_engine(settings)))
    with quiet.engine_asleep(context):
        assert engine.told == ["/sleep"]
        time.sleep(0.2)
        assert engine.told == ["/sleep"]
        engine.asleep = False  # it died and was started again
        until(lambda: engine.asleep)
    assert engine.told == ["/sleep", "/sleep", "/wake_up"]
    time.sleep(0.2)
    assert not engine.asleep
