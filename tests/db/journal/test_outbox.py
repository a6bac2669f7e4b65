"""Wake-ups go out after the commit, never before, never instead; and a dead Redis costs a second at most."""

import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, select, update

from app import logs
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.session import SessionFactory, make_session_factory, transaction
from app.db.tables import OutboxMessage
from app.journal import outbox
from app.journal.publisher import Publisher, Wakeup
from app.settings import Settings

SETTINGS = Settings()


@pytest.fixture
def factory(fresh_engine: Engine) -> SessionFactory:
    return make_session_factory(fresh_engine)


class Recorder:
    """Notes what is sent, and how many of the rows were visible to others at that moment."""

    def __init__(self, factory: SessionFactory, *, accepts: int = 1000) -> None:
        self.factory = factory
        self.accepts = accepts
        self.sent: list[Wakeup] = []
        self.committed: list[int] = []

    def __call__(self, wakeups: Sequence[Wakeup]) -> int:
        with transaction(self.factory) as db:
            self.committed.append(len(db.scalars(select(OutboxMessage)).all()))
        taken = list(wakeups)[: self.accepts]
        self.sent += taken
        return len(taken)


def test_nothing_is_sent_before_the_commit(factory: SessionFactory) -> None:
    recorder = Recorder(factory)
    with transaction(factory) as db:
        outbox.enqueue(db, "hone.run_rounds")
        assert outbox.send_pending(factory, SETTINGS, publish=recorder) == 0
    assert recorder.sent == []
    assert outbox.send_pending(factory, SETTINGS, publish=recorder) == 1
    assert recorder.sent == [Wakeup("hone.run_rounds")]
    assert recorder.committed == [1]


def test_a_wake_up_names_the_request_that_asked_for_it(factory: SessionFactory) -> None:
    recorder = Recorder(factory)
    for request_id in ("first-one", "second-one"):
        with logs.about(request_id=request_id), transaction(factory) as db:
            outbox.enqueue(db, "hone.run_rounds")
    with transaction(factory) as db:
        outbox.enqueue(db, "hone.refill", new_id())
    assert outbox.send_pending(factory, SETTINGS, publish=recorder) == 3
    assert [wakeup.request_id for wakeup in recorder.sent] == ["first-one", None]


def test_nothing_is_sent_after_a_rollback(factory: SessionFactory) -> None:
    recorder = Recorder(factory)

    def failing() -> None:
        with transaction(factory) as db:
            outbox.enqueue(db, "hone.run_rounds")
            raise RuntimeError("the request failed")

    with pytest.raises(RuntimeError):
        failing()
    assert outbox.send_pending(factory, SETTINGS, publish=recorder) == 0
    assert recorder.sent == []


def test_what_was_sent_is_not_sent_again(factory: SessionFactory) -> None:
    recorder = Recorder(factory)
    with transaction(factory) as db:
        outbox.enqueue(db, "hone.tick")
    for _ in range(3):
        outbox.send_pending(factory, SETTINGS, publish=recorder)
        with transaction(factory) as db:
            db.execute(update(OutboxMessage).values(due_at=utcnow()))
    assert len(recorder.sent) == 1


def test_equal_wakeups_are_sent_once_and_ids_are_texts(factory: SessionFactory) -> None:
    recorder, project = Recorder(factory), new_id()
    with transaction(factory) as db:
        for _ in range(3):
            outbox.enqueue(db, "hone.refill", project)
        outbox.enqueue(db, "hone.refill", new_id())
    assert outbox.send_pending(factory, SETTINGS, publish=recorder) == 4
    assert [wakeup.args for wakeup in recorder.sent].count((str(project),)) == 1
    assert len(recorder.sent) == 2


def test_what_the_broker_did_not_take_is_due_again(factory: SessionFactory) -> None:
    with transaction(factory) as db:
        outbox.enqueue(db, "hone.tick")
        outbox.enqueue(db, "hone.run_rounds")
    assert outbox.send_pending(factory, SETTINGS, publish=Recorder(factory, accepts=1)) == 1
    again = Recorder(factory)
    assert outbox.send_pending(factory, SETTINGS, publish=again) == 0, "not within the next seconds"
    with transaction(factory) as db:
        left = db.scalars(select(OutboxMessage).where(OutboxMessage.sent_at.is_(None))).one()
        assert (left.task, left.attempts) == ("hone.run_rounds", 1)
        left.due_at = utcnow()
    assert outbox.send_pending(factory, SETTINGS, publish=again) == 1


def test_a_session_knows_whether_it_has_something_to_send(factory: SessionFactory) -> None:
    with transaction(factory) as db:
        assert not outbox.enqueued(db)
        outbox.enqueue(db, "hone.tick")
        assert outbox.enqueued(db)
        assert not outbox.enqueued(db)


def test_an_unknown_task_is_refused(factory: SessionFactory) -> None:
    with transaction(factory) as db, pytest.raises(ValueError, match=r"hone\.run_rounds"):
        outbox.enqueue(db, "hone.nonsense")


def test_old_messages_are_forgotten(factory: SessionFactory) -> None:
    with transaction(factory) as db:
        for days in (0, 2):
            outbox.enqueue(db, "hone.tick").sent_at = utcnow() - timedelta(days=days)
        outbox.enqueue(db, "hone.tick")
    with transaction(factory) as db:
        assert outbox.forget_sent(db) == 1
        assert len(db.scalars(select(OutboxMessage)).all()) == 2


def test_it_arrives_in_redis(factory: SessionFactory, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url)
    client = redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://"))
    with client:
        client.flushall()
        with transaction(factory) as db:
            outbox.enqueue(db, "hone.run_rounds")
            outbox.enqueue(db, "hone.refill", new_id())
        assert outbox.send_pending(factory, settings) == 2
        assert (client.llen("rounds"), client.llen("refill")) == (1, 1)


@pytest.mark.parametrize("broken", ["nobody there", "refuses", "never answers"])
def test_a_dead_redis_costs_a_second_at_most_and_then_nothing(
    factory: SessionFactory, tmp_path: Path, broken: str
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        if broken == "never answers":
            silent.listen()
        url = f"redis+socket://{tmp_path}/none.sock" if broken == "nobody there" else f"redis://127.0.0.1:{port}/0"
        publisher = Publisher(url, 1.0)
        with transaction(factory) as db:
            outbox.enqueue(db, "hone.tick")
        began = time.monotonic()
        assert outbox.send_pending(factory, SETTINGS, publish=publisher) == 0
        assert time.monotonic() - began < 1.5
        for _ in range(20):
            with transaction(factory) as db:
                outbox.enqueue(db, "hone.tick")
            began = time.monotonic()
            assert outbox.send_pending(factory, SETTINGS, publish=publisher) == 0
            assert time.monotonic() - began < 0.3
        publisher.close()
    with transaction(factory) as db:
        assert len(db.scalars(select(OutboxMessage).where(OutboxMessage.sent_at.is_(None))).all()) == 21
