"""The file of ``hone backup``: one gzipped tar whose first member lists every other with its size and SHA-256.

backup.json      {"schema": 1, "created_at", "hone", "revision", "files": {name: {"bytes", "sha256"}}}
database.dump    pg_dump's custom format
versions/…       the published versions, as they are
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from app.local.errors import LocalError

LISTING = "backup.json"
DUMP = "database.dump"
SCHEMA = 1
_BLOCK = 1 << 20


class BackupError(LocalError):
    """A backup cannot be written, or is not what it says it is."""


@dataclass(frozen=True)
class Listing:
    """What is in a backup."""

    created_at: str
    hone: str
    revision: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    schema: int = SCHEMA


def write(target: Path, *, listing: Listing, dump: Path, versions: Path) -> Listing:
    """Write the archive beside ``target``, fsync it, and rename it there: a file under that name is whole.

    Returns:
        The listing with every file in it.

    Raises:
        OSError: it cannot be written (no space, no right).
    """
    members = [(DUMP, dump)]
    members += [
        (f"versions/{path.relative_to(versions).as_posix()}", path)
        for path in sorted(versions.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    for name, path in members:
        listing.files[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    descriptor, staged_name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)  # 0600: it holds votes
    staged = Path(staged_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Weights do not shrink and the dump is compressed already: more effort would only take time.
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as archive:
                text = json.dumps(asdict(listing), indent=1).encode()
                member = tarfile.TarInfo(LISTING)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
                for name, path in members:
                    archive.add(path, arcname=name, recursive=False)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return listing


def unpack(source: Path, folder: Path, *, wanted: Callable[[str], bool] = lambda _name: True) -> Listing:
    """Unpack the ``wanted`` files into the empty ``folder`` and verify each on the way.

    Raises:
        BackupError: it is no backup, is cut off, or a file is missing, unexpected or changed.
    """
    try:
        with tarfile.open(source, mode="r|gz") as archive:
            members = iter(archive)
            listing = _listing(archive, next(members, None), source)
            missing = dict(listing.files)
            for member in members:
                expected = missing.pop(member.name, None)
                if expected is None or not member.isfile():
                    raise BackupError(
                        f"{source} holds {member.name!r}, which its listing does not name: do not trust it"
                    )
                if wanted(member.name):
                    _unpack_one(archive, member, folder, expected, source)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError) and error.filename == str(source):
            raise BackupError(f"{source} cannot be read ({(error.strerror or '').lower()})") from error
        raise BackupError(f"{source} is no whole backup of Hone ({error}): take another copy of it") from error
    if missing:
        raise BackupError(f"{source} lacks {min(missing)!r}: it is cut off; take another copy of it")
    return listing


def _listing(archive: tarfile.TarFile, member: tarfile.TarInfo | None, source: Path) -> Listing:
    if member is None or member.name != LISTING:
        raise BackupError(f"{source} is not a backup made by `hone backup`")
    stream = archive.extractfile(member)
    try:
        listing = Listing(**json.loads(stream.read() if stream else b""))
    except (ValueError, TypeError) as error:
        raise BackupError(f"the listing in {source} cannot be read ({error})") from error
    if listing.schema != SCHEMA:
        raise BackupError(f"{source} has schema {listing.schema}, this Hone reads {SCHEMA}: use the Hone that made it")
    return listing


def _unpack_one(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, expected: dict[str, Any], source: Path
) -> None:
    parts = PurePosixPath(member.name).parts
    if not parts or PurePosixPath(member.name).is_absolute() or ".." in parts or parts[0] not in {DUMP, "versions"}:
        raise BackupError(f"{source} holds a file with the place {member.name!r}: do not trust it")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = archive.extractfile(member)
    digest = hashlib.sha256()
    size = 0
    with target.open("xb") as file:
        for block in iter(lambda: stream.read(_BLOCK) if stream else b"", b""):
            digest.update(block)
            size += len(block)
            file.write(block)
        os.fsync(file.fileno())
    if size != expected["bytes"] or digest.hexdigest() != expected["sha256"]:
        raise BackupError(
            f"{member.name} in {source} is not what was backed up (sha256 {digest.hexdigest()[:12]}…, "
            f"listed {str(expected['sha256'])[:12]}…): take another copy of the file"
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_BLOCK), b"")
