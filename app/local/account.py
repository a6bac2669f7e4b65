"""The unprivileged account the embedded Postgres runs under when Hone itself runs as root (Postgres refuses root)."""

import os
import pwd
import shutil
import subprocess

from app.local.errors import PostgresError
from app.local.process import Account

ACCOUNT = "hone-postgres"


def own_name() -> str:
    """The name of the account this process runs under, as peer authentication sees it.

    Raises:
        PostgresError: the user id has no account (a container started with a bare number).
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise PostgresError(
            f"user id {os.geteuid()} has no account on this machine, and the embedded Postgres needs one: "
            "add it to /etc/passwd, or set HONE_DATABASE_URL to a Postgres of your own"
        ) from None


def server_account() -> Account | None:
    """Whose account the server takes: none of its own unless we are root.

    As root: ``hone-postgres``, made here if missing. Where no account can be made (no ``useradd``, a read-only
    /etc), ``postgres``, then ``nobody``: those may belong to other services, so they are the second choice.

    Raises:
        PostgresError: root, and no account to step down to.
    """
    if os.geteuid() != 0:
        return None
    account = _find(ACCOUNT)
    if account is None:
        _create(ACCOUNT)
        account = _find(ACCOUNT) or _find("postgres") or _find("nobody")
    if account is None or account.uid == 0:
        raise PostgresError(
            "Postgres does not run as root, and no account to run it under could be made: run Hone as an ordinary "
            f"user, make the account with `useradd --system {ACCOUNT}`, or set HONE_DATABASE_URL"
        )
    return account


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _create(name: str) -> None:
    """Make a system account without home, shell or password; a failure shows in the look-up that follows."""
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return
    subprocess.run(
        [program, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell",
         "/usr/sbin/nologin", name],
        check=False,
        capture_output=True,
        timeout=30,
    )  # fmt: skip
