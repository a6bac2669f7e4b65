"""A version on disk: its manifest, its version.json, and how it is published whole or not at all.

Standard library only: the product, the engine and the trainer all read it, and the product never imports torch.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

MANIFEST_FILE = "manifest.json"
VERSION_FILE = "version.json"
SCHEMA = 1

_CHUNK_BYTES = 1 << 20


class ManifestError(Exception):
    """A version directory is not what its manifest says. The message names the file and what differs."""


@dataclass(frozen=True, slots=True)
class Base:
    """The full model under an adapter: a sibling version by id, else a path; ``digest`` is its manifest's."""

    version: str | None = None
    path: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """The version this one was trained from."""

    version: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """version.json: what a version is, where it came from and how it did."""

    kind: Literal["full", "adapter"]
    context_length: int
    """Tokens, prompt and completion together."""
    base: Base | None = None
    """Of an adapter; None for a full version."""
    parent: Parent | None = None
    source: dict[str, Any] = field(default_factory=dict)
    """What an imported model was made of, as ``worker.imports.source_of`` tells it; empty for a trained one."""
    spec: dict[str, Any] = field(default_factory=dict)
    """The settings it was trained with, as spec.json held them; empty for an imported model."""
    snapshot_hash: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema: int = SCHEMA

    def write(self, directory: Path) -> None:
        """Write version.json into ``directory``; call before ``write_manifest``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        (directory / VERSION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "VersionInfo":
        """The version.json of ``directory``.

        Raises:
            ManifestError: it is missing, not JSON, or of a schema this program does not know.
        """
        file = directory / VERSION_FILE
        data = _read_object(file)
        if data.get("schema") != SCHEMA:
            raise ManifestError(f"{file}: schema {data.get('schema')!r}, this program reads {SCHEMA}")
        if data.get("kind") not in ("full", "adapter"):
            raise ManifestError(f"{file}: kind {data.get('kind')!r} is neither 'full' nor 'adapter'")
        try:
            data["base"] = None if data.get("base") is None else Base(**data["base"])
            data["parent"] = None if data.get("parent") is None else Parent(**data["parent"])
            return cls(**data)
        except TypeError as error:
            raise ManifestError(f"{file}: {error}") from error

    def base_directory(self, directory: Path) -> Path:
        """Where the base of the adapter in ``directory`` lies: its sibling by version id, else ``base.path``.

        Raises:
            ManifestError: a full version, or neither place exists.
        """
        if self.base is None:
            raise ManifestError(f"{directory}: {self.kind} version names no base")
        places = []
        if self.base.version is not None:
            places.append(directory.resolve().parent / self.base.version)
        if self.base.path is not None:
            places.append(Path(self.base.path))
        for place in places:
            if (place / MANIFEST_FILE).is_file():
                return place
        looked = " nor ".join(str(place) for place in places) or "nowhere: version.json names no place"
        raise ManifestError(f"{directory}: its base model was not found (looked in {looked})")


def write_manifest(directory: Path) -> str:
    """Hash every file below ``directory`` into manifest.json; returns the version's digest.

    Raises:
        ManifestError: a symbolic link or something else that is not a plain file lies in it.
    """
    files = {
        name: {"sha256": _sha256(directory / name), "bytes": (directory / name).stat().st_size}
        for name in _names(directory)
    }
    manifest = {"schema": SCHEMA, "files": files}
    text = json.dumps(manifest, indent=2, sort_keys=True)
    (directory / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return _digest(manifest)


def verify(directory: Path) -> str:
    """Compare every file below ``directory`` with its manifest; returns the version's digest.

    Raises:
        ManifestError: the first file that is missing, added, or differs in size or content.
    """
    manifest = _read_object(directory / MANIFEST_FILE)
    if manifest.get("schema") != SCHEMA or not isinstance(manifest.get("files"), dict):
        raise ManifestError(f"{directory / MANIFEST_FILE}: not a manifest of schema {SCHEMA}")
    files: dict[str, Any] = manifest["files"]
    for name, entry in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ManifestError(f"{directory / MANIFEST_FILE}: {name!r} points outside the directory")
        if not isinstance(entry, dict) or not {"sha256", "bytes"} <= entry.keys():
            raise ManifestError(f"{directory / MANIFEST_FILE}: the entry of {name!r} has no size or hash")
    present = set(_names(directory))
    for name in sorted(present - files.keys()):
        raise ManifestError(f"{directory / name}: not in the manifest")
    for name, entry in sorted(files.items()):
        if name not in present:
            raise ManifestError(f"{directory / name}: missing")
        size = (directory / name).stat().st_size
        if size != entry["bytes"]:
            raise ManifestError(f"{directory / name}: {size} bytes, the manifest says {entry['bytes']}")
        digest = _sha256(directory / name)
        if digest != entry["sha256"]:
            raise ManifestError(f"{directory / name}: sha256 {digest}, the manifest says {entry['sha256']}")
    return _digest(manifest)


def read_digest(directory: Path) -> str:
    """The digest the manifest of ``directory`` claims, without hashing the files."""
    return _digest(_read_object(directory / MANIFEST_FILE))


def publish(staged: Path, final: Path) -> None:
    """Move the finished directory ``staged`` to ``final`` so that a crash leaves all of it or nothing.

    Both lie on one file system. Every file and folder is fsynced first, the parents of both after.

    Raises:
        FileExistsError: ``final`` is there already; versions are never overwritten.
    """
    if final.exists():
        raise FileExistsError(f"{final} exists already; a version is never overwritten")
    for folder, _, names in os.walk(staged, topdown=False):
        for name in names:
            _fsync(Path(folder) / name)
        _fsync(Path(folder))
    final.parent.mkdir(parents=True, exist_ok=True)
    source_parent = staged.resolve().parent
    staged.rename(final)
    _fsync(final.parent)
    _fsync(source_parent)


def _digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``manifest``: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _names(directory: Path) -> list[str]:
    """Relative POSIX names of the plain files below ``directory``, sorted, without the manifest itself."""
    return sorted(name for name in _walk(directory, "") if name != MANIFEST_FILE)


def _walk(directory: Path, prefix: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}"
            else:
                raise ManifestError(f"{entry.path}: not a plain file; a version holds no links")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read_object(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: missing") from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file}: unreadable ({error})") from error
    if not isinstance(data, dict):
        raise ManifestError(f"{file}: holds {type(data).__name__}, not an object")
    return data


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
