"""Behind ``hone up``: one process that starts all parts on one data directory, keeps them running, and stops them.

Order: lock → leftovers of a killed start → Postgres and Redis → migrations → first run → engine, worker, beat, web →
ready.
What is configured (``HONE_DATABASE_URL``, ``HONE_REDIS_URL``, ``HONE_ENGINE_URL``) is used instead of started.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import IO

from pydantic import SecretStr
from sqlalchemy import Engine

from app.db import migrations
from app.db.session import make_engine
from app.engine.places import addresses as engine_addresses
from app.local import commands, demo, first_run, net, ping, stack
from app.local.children import Child, Children, Starter
from app.local.console import Report
from app.local.errors import StackError
from app.local.lock import DataLock, is_locked
from app.local.logs import ChildLog
from app.local.names import unknown_settings
from app.local.postgres import STOPPING as POSTGRES_STOPPING
from app.local.postgres import EmbeddedPostgres
from app.local.process import RUN_MARK, STACK_MARK, spawn, sweep
from app.local.redis import STOPPING as REDIS_STOPPING
from app.local.redis import EmbeddedRedis
from app.settings import Settings
from app.web.measures import SHARED_FOLDER

READY_WARNING_SECONDS = 180.0
WEB_STOPPING = ((signal.SIGTERM, 15.0),)
WORKER_STOPPING = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 15.0))
"""Celery's warm stop, then its cold one; a trainer that is told to stop writes a checkpoint first."""
BEAT_STOPPING = ((signal.SIGTERM, 5.0),)
ENGINE_STOPPING = ((signal.SIGTERM, 10.0),)


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM, or the terminal went away."""


class Supervisor:
    """One run of a stack.

    Args:
        settings: as configured; the addresses of embedded parts are filled in on the way.
        report: says what happens, for people.
        with_demo: make the demo project when the installation is empty.
    """

    def __init__(self, settings: Settings, report: Report, *, with_demo: bool) -> None:
        self.settings = settings.model_copy(update={"data": settings.data.resolve()})
        self.report = report
        self.demo = with_demo
        self.run = secrets.token_hex(8)
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.children = Children(report.line)
        self._stopping = 0
        self._stack_unwritten = False
        self._redis_answers = True
        self._guardian: subprocess.Popen[bytes] | None = None
        self._engine: Engine | None = None

    def main(self) -> int:
        """Run until told to stop. Returns the exit status: 0 after a wished stop, 1 after a failed start.

        Raises:
            LocalError: something is in the way; nothing is left running.
        """
        if not is_locked(self.settings.data):  # else the lock says who works there: more than a taken port does
            net.require_free_port(self.settings.host, self.settings.port)  # before anything is made
        with DataLock(self.settings.data, "hone up"):
            port = net.require_free_port(self.settings.host, self.settings.port)
            self.settings = self.settings.model_copy(update={"port": port})
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) is not signal.SIG_IGN:  # as nohup has it
                    signal.signal(signum, self._on_signal)
            try:
                self._start()
                self._watch()
            except StopRequested:
                self.report.line("stopping: everything is kept")
            except OSError as error:
                raise StackError(f"{self.settings.data}: {error}; mend that and start again") from error
            finally:
                self._stopping = max(self._stopping, 1)
                self._stop()
        self.report.line(f"stopped; `hone up --data {self.settings.data}` goes on where this was")
        return 0

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopping += 1
        if self._stopping == 1:
            raise StopRequested
        if self._stopping == 2:
            self.report.line("still stopping; once more kills what is left (nothing saved is lost)")
        else:
            sweep(RUN_MARK, self.run, grace_seconds=0)

    # -- starting ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        data = self.settings.data
        for line in sweep(STACK_MARK, str(data), grace_seconds=15.0):
            self.report.line(f"ended {line}, left over from a start that was killed")
        stack.remove(data)
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "app.local.guardian", self.run],
            stdin=subprocess.PIPE,
            cwd=migrations.ROOT,
            start_new_session=True,
        )
        self.report.start(data)
        for line in unknown_settings(os.environ):
            self.report.line(line)
        self._start_servers()
        self._engine = make_engine(self.settings)
        with self.report.timed("database", "at the newest revision"):
            migrations.upgrade(self._engine)
        first = first_run.prepare(self.settings, self._engine, with_demo=self.demo)
        self._start_programs()
        self._write_stack(ready=False)
        self._wait_until_ready(self._engine)
        self.report.ready(self.settings, local_url(self.settings), first)
        self.children.was_ready = True
        self._write_stack(ready=True)

    def _start_servers(self) -> None:
        data = self.settings.data
        if self.settings.database_url:
            self.report.step("Postgres", "yours (HONE_DATABASE_URL)")
        else:
            postgres = EmbeddedPostgres(data)

            def start_postgres(output: IO[bytes]) -> subprocess.Popen[bytes]:
                postgres.start(output=output, env=self._marks())
                return _process(postgres.process)

            with self.report.timed("Postgres", "embedded"):
                self._add("postgres", start_postgres, POSTGRES_STOPPING)
            self.settings = self.settings.model_copy(update={"database_url": postgres.url()})
        if self.settings.redis_url:
            problem = ping.redis_problem(self.settings.redis_url)
            if problem:
                self._redis_answers = False
                self.report.line(f"the Redis of HONE_REDIS_URL does not answer ({problem}); rounds and new pairs wait "
                                 "until it does, voting does not")  # fmt: skip
            else:
                self.report.step("Redis", "yours (HONE_REDIS_URL)")
        else:
            redis = EmbeddedRedis(data)

            def start_redis(output: IO[bytes]) -> subprocess.Popen[bytes]:
                redis.start(output=output, env=self._marks())
                return _process(redis.process)

            with self.report.timed("Redis", "embedded"):
                self._add("redis", start_redis, REDIS_STOPPING)
            self.settings = self.settings.model_copy(update={"redis_url": redis.url()})

    def _start_programs(self) -> None:
        settings = self.settings
        if not settings.engine_url:
            port = net.free_port()
            secret = settings.engine_secret.get_secret_value() or secrets.token_urlsafe(32)
            settings = settings.model_copy(
                update={
                    "engine_url": f"http://127.0.0.1:{port}",
                    "engine_kind": "vllm",
                    "engine_secret": SecretStr(secret),
                }
            )
            self.settings = settings
            self._add_program("engine", commands.engine(settings.versions_dir, "127.0.0.1", port), ENGINE_STOPPING)
        else:
            self.report.step("engine", f"yours ({settings.engine_url})")
        self._add_program("worker", commands.worker(), WORKER_STOPPING)
        self._add_program("beat", commands.beat(settings.data / "run" / "celerybeat-schedule"), BEAT_STOPPING)
        processes = commands.web_processes(settings.web_processes)
        shared = counting_together(settings.data) if processes > 1 else {}
        self._add_program("web", commands.web(settings.host, settings.port, processes), WEB_STOPPING, shared)

    def _add_program(
        self,
        name: str,
        command: Sequence[str],
        stopping: Sequence[tuple[signal.Signals, float]],
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        def start(output: IO[bytes]) -> subprocess.Popen[bytes]:
            environment = {key: value for key, value in os.environ.items() if key not in NOT_PASSED_ON}
            return spawn(
                command,
                env=environment | addresses(self.settings) | self._marks() | dict(more),
                output=output,
                cwd=migrations.ROOT,
            )

        self._add(name, start, stopping)

    def _add(self, name: str, starter: Starter, stopping: Sequence[tuple[signal.Signals, float]]) -> None:
        self.children.add(Child(name, ChildLog(self.settings.data / "logs" / f"{name}.log"), starter, stopping))

    def _marks(self) -> dict[str, str]:
        return {STACK_MARK: str(self.settings.data), RUN_MARK: self.run}

    # -- running ----------------------------------------------------------------------------------------------

    def _wait_until_ready(self, engine: Engine) -> None:
        """Wait for engine, web and worker (and, in the demo, for pairs), tending the children meanwhile."""
        urls = engine_addresses(self.settings.engine_url)
        waits: dict[str, Callable[[], bool]] = {
            "engine": lambda: all(net.status_of(url, "/health") == 200 for url in urls),
            "web": lambda: net.status_of(local_url(self.settings), "/readyz") == 200,
            "worker": lambda: _worker_answers(self.settings),
        }
        if not self._redis_answers:
            del waits["worker"]
        elif self.demo:
            waits["pairs"] = lambda: demo.ready_pairs(engine) > 0
        if "engine" not in self.children.pids() and not waits["engine"]():
            del waits["engine"]
            self.report.line(f"{self.settings.engine_url} (HONE_ENGINE_URL) does not answer; pairs wait until it does")
        began = time.monotonic()
        warned = False
        while waits:
            for name in [name for name, is_ready in waits.items() if is_ready()]:
                del waits[name]
                self.report.step(name, f"ready ({time.monotonic() - began:.1f} s)")
            if not warned and time.monotonic() - began > READY_WARNING_SECONDS:
                warned = True
                self.report.line(f"still waiting for {', '.join(waits)}: `hone doctor` says what is wrong")
            self._tend()
            time.sleep(0.2)

    def _watch(self) -> None:
        while True:
            self._tend()
            time.sleep(0.5)

    def _tend(self) -> None:
        if self.children.tend() or self._stack_unwritten:
            self._write_stack(ready=self.children.was_ready)

    def _write_stack(self, *, ready: bool) -> None:
        """Tell other commands how things are; when that cannot be written, say so once and try again later."""
        try:
            self._stack(ready=ready).write(self.settings.data)
        except OSError as error:
            if not self._stack_unwritten:
                self.report.line(f"{stack.path(self.settings.data)} cannot be written ({error.strerror or error}): "
                                 "`hone doctor` shows what was before")  # fmt: skip
            self._stack_unwritten = True
        else:
            self._stack_unwritten = False

    def _stack(self, *, ready: bool) -> stack.Stack:
        settings = self.settings
        return stack.Stack(
            pid=os.getpid(),
            url=local_url(settings),
            database_url=settings.database_url,
            redis_url=settings.redis_url,
            engine_url=settings.engine_url,
            engine_secret=settings.engine_secret.get_secret_value(),
            started_at=self.started_at,
            ready=ready,
            children=self.children.pids(),
        )

    # -- stopping ---------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.children.stop()
        for line in sweep(RUN_MARK, self.run, grace_seconds=5.0):
            self.report.line(f"ended {line}")
        stack.remove(self.settings.data)
        if self._engine is not None:
            self._engine.dispose()
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.wait(30)


NOT_PASSED_ON = frozenset({"HONE_ADMIN_EMAIL", "HONE_ADMIN_PASSWORD"})
"""What the children have no use for."""


def addresses(settings: Settings) -> dict[str, str]:
    """The environment by which a child finds the parts of this stack."""
    return {
        "HONE_DATA": str(settings.data),
        "HONE_DATABASE_URL": settings.database_url,
        "HONE_REDIS_URL": settings.redis_url,
        "HONE_ENGINE_URL": settings.engine_url,
        "HONE_ENGINE_KIND": settings.engine_kind,
        "HONE_ENGINE_SECRET": settings.engine_secret.get_secret_value(),
        "HONE_HOST": settings.host,
        "HONE_PORT": str(settings.port),
    }


def counting_together(data: Path) -> dict[str, str]:
    """The environment by which web processes count together for ``/metrics``, from nothing on."""
    folder = data / "run" / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return {SHARED_FOLDER: str(folder)}


def _worker_answers(settings: Settings) -> bool:
    try:
        return bool(ping.workers(settings.redis_url, timeout_seconds=0.3))
    except OSError:  # Redis is not there yet, or not again
        return False


def _process(process: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
    if process is None:
        raise StackError("a server says that it has started, but there is no process")
    return process


def local_url(settings: Settings) -> str:
    """Where this machine reaches the web server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"
