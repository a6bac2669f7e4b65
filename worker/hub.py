"""Models of the Hugging Face hub by their ids: fetched, or from the local cache where the hub is out of reach."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from worker.models import (
    ADAPTER_CONFIG,
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    WEIGHTS_INDEX,
    ModelError,
)

log = logging.getLogger(__name__)

_TAKEN = ("config.json", ADAPTER_CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES, "*.safetensors", WEIGHTS_INDEX)


class _OutOfReachError(ModelError):
    """The hub does not answer, or is not to be asked (HF_HUB_OFFLINE)."""


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form of a hub id, 'owner/name'."""
    return len(Path(name).parts) == 2 and not Path(name).is_absolute()


@contextmanager
def files_of(name: str, near: Path, revision: str | None = None) -> Iterator[tuple[Path, str]]:
    """A folder with the files of a model on the hub, and the commit they are of; to be read while the block lasts.

    Fetched into a folder of its own in ``near``, or, where the hub is out of reach, as they lie in the local cache.

    Args:
        name: the hub id.
        near: a folder on the file system that the files are wanted on.
        revision: branch, tag or commit; the hub's main branch by default.

    Raises:
        ModelError: not a hub id, nothing there under it, or neither hub nor cache has it.
    """
    import huggingface_hub

    commit, cached = _found(name, revision)
    if cached is not None:
        yield cached, commit
        return
    with TemporaryDirectory(dir=near, prefix=".download-") as folder:
        with _asking(name):
            huggingface_hub.snapshot_download(
                name, revision=commit, local_dir=folder, allow_patterns=list(_TAKEN), ignore_patterns=["*/*"]
            )
        yield Path(folder), commit


def commit_of(name: str, revision: str | None = None) -> str:
    """The commit that the hub has of a model now, or that the cache has where the hub is out of reach.

    Raises:
        ModelError: as ``files_of``.
    """
    return _found(name, revision)[0]


def _found(name: str, revision: str | None) -> tuple[str, Path | None]:
    """The commit, and the cache's folder of it if the hub cannot be asked."""
    if not is_hub_id(name):
        raise ModelError(f"{name}: no such directory, and not a hub id like 'owner/name'")
    import huggingface_hub

    try:
        with _asking(name):
            return str(huggingface_hub.model_info(name, revision=revision).sha), None
    except _OutOfReachError as error:
        cached = _cached(name, revision)
        if cached is None:
            raise ModelError(f"{error}; and the cache {_cache()} has no copy of {_told(name, revision)}") from error
        log.warning("%s: the hub is out of reach, and commit %s is taken from the cache", name, cached.name)
        return cached.name, cached


def _cached(name: str, revision: str | None) -> Path | None:
    """The cache's folder of a model; None where it has no configuration of it."""
    import huggingface_hub

    for file in ("config.json", ADAPTER_CONFIG):
        found = huggingface_hub.try_to_load_from_cache(name, file, cache_dir=_cache(), revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _told(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name} at {revision}"


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Errors of the hub's client as ModelErrors that say what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # What every error of the hub's HTTP client is, whichever client that is.
    of_client = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise _OutOfReachError(
            f"{name}: HF_HUB_OFFLINE keeps it from being fetched; unset that, or name a directory that has the model"
        ) from error
    except (of_client, HFValidationError, OSError) as error:
        said = " ".join(str(error).split())
        answered = isinstance(error, HFValidationError) or (
            isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        )
        raise (ModelError if answered else _OutOfReachError)(
            f"{name}: could not be fetched from the hub: {said}; see to the network, and to HF_TOKEN for a model that "
            "asks for it, or name a directory that has the model"
        ) from error
