"""The embedded PostgreSQL 18: a real server on a unix socket, without TCP, that only this account may enter."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from app.local.errors import PostgresError
from app.local.postgres_files import ROLE, SOCKET_NAME, SYSTEM_HOME, Place, place_for
from app.local.process import spawn, stop

DATABASE = "hone"
STOPPING = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
"""Fast shutdown (clients are cut off, everything is written), then immediate (recovery at the next start)."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "random_page_cost": "1.1",  # of solid-state disks: an index costs little more than reading in order
    "jit": "off",  # short queries: compiling them costs more than running them
}
UNSAFE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
"""For throw-away clusters only: a crash may lose all."""


class EmbeddedPostgres:
    """One server for one data directory. The caller holds the lock of the data directory.

    Args:
        data: the data directory.
        throw_away: trade durability for speed; for tests and simulations whose data nobody keeps.
        system_home: where the clusters of root's data directories live.
    """

    def __init__(self, data: Path, *, throw_away: bool = False, system_home: Path = SYSTEM_HOME) -> None:
        self.data = data.resolve()
        self.throw_away = throw_away
        self.system_home = system_home
        self.place: Place | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, output: IO[bytes] | int = subprocess.DEVNULL, env: dict[str, str] | None = None,
              timeout_seconds: float = 30.0) -> Self:  # fmt: skip
        """Make the cluster if there is none, start the server, wait until it answers, make the database.

        Args:
            output: takes the server's log.
            env: more environment for the server (the mark of the stack).

        Raises:
            PostgresError: it does not come up; the message says why.
        """
        self.place = place_for(self.data, system_home=self.system_home)
        if not self.place.cluster.exists():
            self._make_cluster(self.place)
        end_leftovers(self.place)
        settings = SETTINGS | (UNSAFE_SETTINGS if self.throw_away else {}) | {
            "unix_socket_directories": str(self.place.sockets),
            "hba_file": str(self.place.config / "pg_hba.conf"),
            "ident_file": str(self.place.config / "pg_ident.conf"),
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + timeout_seconds
        while True:
            self.process = spawn(
                [self.place.programs / "postgres", "-D", self.place.cluster, *options],
                env=_environment() | (env or {}),
                output=output,
                account=self.place.account,
                death_signal=signal.SIGINT,
            )
            if self._answers(deadline):
                break
            # A server that was killed may leave backends that hold its shared memory for a moment longer.
            if time.monotonic() > deadline:
                raise PostgresError(f"the embedded Postgres at {self.place.cluster} does not start; its log says why")
            time.sleep(0.5)
        self._make_database()
        return self

    def stop(self) -> None:
        """Fast shutdown, waited for. Does nothing when the server is not running."""
        if self.process is not None:
            stop(self.process, STOPPING)
            self.process = None

    def url(self, database: str = DATABASE) -> str:
        """The address of ``database``, as SQLAlchemy with psycopg 3 takes it; it holds no secret."""
        if self.place is None:
            raise PostgresError("the embedded Postgres has not been started")
        return f"postgresql+psycopg://{ROLE}@/{database}?host={quote(str(self.place.sockets), safe='')}"

    def connect(self, database: str = DATABASE) -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection in autocommit mode."""
        if self.place is None:
            raise PostgresError("the embedded Postgres has not been started")
        return psycopg.connect(
            host=str(self.place.sockets), user=ROLE, dbname=database, autocommit=True, connect_timeout=5
        )

    def _answers(self, deadline: float) -> bool:
        """Wait until the server takes connections; false when it ended or the time is up."""
        while self.process is not None and self.process.poll() is None:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    self.stop()
                    return False
                time.sleep(0.02)
            else:
                return True
        return False

    def _make_cluster(self, place: Place) -> None:
        """``initdb`` beside the place, then a rename: a cluster is there whole or not at all."""
        parent = place.cluster.parent
        for abandoned in parent.glob("new-*"):
            shutil.rmtree(abandoned)
        staged = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
        user: dict[str, object] = {}
        if place.account:
            os.chown(staged, place.account.uid, place.account.gid)
            user = {"user": place.account.uid, "group": place.account.gid, "extra_groups": []}
        command: list[str | Path] = [
            place.programs / "initdb",
            "-D",
            staged,
            f"--username={ROLE}",
            "--auth=peer",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
        ]
        if self.throw_away:
            command.append("--no-sync")
        result = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", env=_environment(),
                                timeout=120, **user)  # type: ignore[call-overload]  # fmt: skip
        if result.returncode != 0:
            shutil.rmtree(staged)
            said = (result.stderr or result.stdout).strip().splitlines()
            raise PostgresError(f"initdb could not make a database in {parent}: {said[-1] if said else 'no reason'}")
        staged.rename(place.cluster)

    def _make_database(self) -> None:
        with self.connect("postgres") as connection:
            if connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))


def end_leftovers(place: Place) -> None:
    """Before a start: end a server that outlived its supervisor, then remove its lock files.

    Postgres itself refuses to start while the pid in a lock file is taken, even by another program, which happens
    after a reboot or in a container, where pids repeat. The files may go once no process works in the cluster.
    """
    postmaster = _postmaster_pid(place.cluster)
    for signum, seconds in (*STOPPING, (signal.SIGKILL, 5.0)):
        servers = _servers(place.cluster)
        if not servers:
            break
        leaders = [server for server in servers if server.pid == postmaster]
        for server in leaders or servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(signum)
        psutil.wait_procs(servers, timeout=seconds)
    for lock in (place.cluster / "postmaster.pid", place.sockets / f"{SOCKET_NAME}.lock"):
        lock.unlink(missing_ok=True)


def _postmaster_pid(cluster: Path) -> int | None:
    try:
        return int((cluster / "postmaster.pid").read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _servers(cluster: Path) -> list[psutil.Process]:
    """Living processes of a Postgres that works in ``cluster``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()) == cluster:
                found.append(process)
        except (psutil.Error, OSError):  # ended, a zombie, or somebody else's
            continue
    return found


def _environment() -> dict[str, str]:
    """What the server needs, and nothing of ours: no PG* variables, no secrets."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
