"""What the product reads out of a version's directory. Never torch: JSON files, hashes, and the tokenizers library."""

import json
from pathlib import Path
from uuid import UUID

from app.versions.manifest import ManifestError, VersionInfo, read_digest

GENERATION_CONFIG = "generation_config.json"


def directory(versions_dir: Path, version_id: UUID) -> Path:
    """Where a version lies. The name is made from its id, never from input."""
    return versions_dir / str(version_id)


def check_base(folder: Path) -> None:
    """Make sure that the base under an adapter is there and is the one it stands on; nothing to do for a full version.

    The base is a version of its own, whose files were hashed when it was registered and are again when it is loaded.

    Raises:
        ManifestError: what is missing or differs.
    """
    info = VersionInfo.read(folder)
    if info.kind == "adapter":
        base = info.base_directory(folder)
        found = read_digest(base)
        if info.base is not None and info.base.digest not in (None, found):
            raise ManifestError(f"{base}: digest {found}, the adapter in {folder} stands on {info.base.digest}")


def end_tokens(folder: Path) -> frozenset[int]:
    """Ids of the tokens with which the version ends an answer by itself: of its own generation config, else its base's.

    Raises:
        ManifestError: neither says.
    """
    places = [folder]
    if not (folder / GENERATION_CONFIG).is_file():
        info = VersionInfo.read(folder)
        if info.kind == "adapter":
            places.append(info.base_directory(folder))
    for place in places:
        try:
            data = json.loads((place / GENERATION_CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ManifestError(f"{place / GENERATION_CONFIG}: unreadable ({error})") from error
        ids = data.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [ids]
        if ids and all(isinstance(token, int) for token in ids):
            return frozenset(ids)
    raise ManifestError(f"{places[-1] / GENERATION_CONFIG}: does not say which tokens end an answer (eos_token_id)")
