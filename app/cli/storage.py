"""``hone migrate``, ``hone backup`` and ``hone restore``."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import BadInputError, DataOption, attached, console


def migrate(data: DataOption = None) -> None:
    """Bring the database to the newest revision, and make the folders of the data directory.

    `hone up` does this by itself; with servers of your own, run it before each new release starts.
    """
    from app.db import migrations
    from app.db.session import make_engine
    from app.local.lock import prepare_data_directory

    with attached(data, "hone migrate", may_create=True) as settings:
        prepare_data_directory(settings.data)
        engine = make_engine(settings)
        try:
            before = migrations.current(engine)
            migrations.upgrade(engine)
            after = migrations.current(engine)
        finally:
            engine.dispose()
    console.print(f"The database is at revision {after}" + ("." if before == after else f" (it was at {before})."))


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, for example hone.tar.gz.")],
    data: DataOption = None,
) -> None:
    """Write database and versions into one file, with checksums. Works on a running installation too."""
    from app.local.backup import back_up

    with attached(data, "hone backup") as settings:
        listing = back_up(settings, file)
    size = file.stat().st_size / 2**20
    console.print(f"{file}: {len(listing.files)} files, {size:.1f} MiB, database revision {listing.revision}.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file made by `hone backup`.")],
    data: DataOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there: the database is dropped, versions are set aside.")
    ] = False,
    versions_only: Annotated[
        bool,
        typer.Option("--versions-only", help="Put back missing or damaged version folders, and touch nothing else."),
    ] = False,
) -> None:
    """Put a backup into an empty installation. Every file is verified before anything is changed.

    With --versions-only, into one that is in use: the database, with the votes since the backup, stays as it is.
    """
    from app.local import stack
    from app.local.backup import restore as restore_backup
    from app.local.errors import LocalError

    if versions_only:
        if force:
            raise BadInputError("--versions-only replaces only what is damaged: leave --force out")
        _put_versions_back(file, data)
        return
    with attached(data, "hone restore", may_create=True) as settings:
        if stack.running(settings.data) is not None:
            raise LocalError(f"`hone up` is running on {settings.data}: stop it first, then restore")
        listing = restore_backup(settings, file, force=force)
    console.print(f"Restored {len(listing.files)} files from {listing.created_at}; `hone up` goes on from there.")


def _put_versions_back(file: Path, data: Path | None) -> None:
    from app.local.backup import restore_versions

    with attached(data, "hone restore --versions-only") as settings:
        done = restore_versions(settings, file)
    for name in done.put_back:
        console.print(f"Put back {name}.", highlight=False)
    if done.aside is not None:
        console.print(f"The damaged files are in {done.aside}.", highlight=False, soft_wrap=True)
    if done.not_there:
        raise BadInputError(f"{file} does not hold what these should be: {'; '.join(done.not_there)}. "
                            "Try a later backup, or roll back to another version")  # fmt: skip
    if not done.put_back:
        console.print("Every version verifies: there is nothing to put back.")


def prune(
    data: DataOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    keep: Annotated[
        int, typer.Option(min=0, metavar="N", help="Retired and rejected versions of each project that stay.")
    ] = 3,
) -> None:
    """Remove files that are needed no more. Works on a running installation too.

    Old versions' files (their rows, figures and votes stay), versions that a
    restore set aside, and checkpoints of cancelled rounds, all at rest for a
    day. Kept: current versions and candidates, the first version and the one a
    roll-back leads to, whatever those and rounds stand on, and the newest N.
    A removed version can be promoted again only after its files were put back
    from a backup.
    """
    from app.db.session import make_engine, make_session_factory, transaction
    from app.local.prune import prunable
    from app.local.prune import prune as remove

    with attached(data, "hone prune") as settings:
        engine = make_engine(settings)
        try:
            factory = make_session_factory(engine)
            if dry_run:
                with transaction(factory) as db:
                    items = list(prunable(db, settings, keep=keep))
            else:
                items = remove(factory, settings, keep=keep)
        finally:
            engine.dispose()
    for item in items:
        console.print(f"{item.bytes / 2**20:10.1f} MiB  {item.name}: {item.path}", highlight=False, soft_wrap=True)
    total = f"{sum(item.bytes for item in items) / 2**20:.1f} MiB"
    console.print(f"{total} would be removed." if dry_run else f"{total} removed.", highlight=False)
