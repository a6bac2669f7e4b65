"""From a finished version in the job directory to a registered one, without ever leaving half of it.

An attempt publishes under its own token: the version's id is the token. Whoever lost the round may still move files,
but only the holder of the token registers, and what was published and not registered is adopted or removed by the
next holder. Nobody else removes anything.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Round, Version
from app.rounds import service
from app.versions.files import check_base
from app.versions.manifest import ManifestError, VersionInfo, publish, verify
from worker.context import Context
from worker.rounds.errors import RoundFailedError
from worker.rounds.folder import Folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A finished version that an earlier attempt left."""

    token: UUID
    published: bool
    """It lies in its final place already; only the row is missing."""


def adoptable(folder: Folder, tokens: Sequence[UUID], snapshot_hash: str | None) -> Found | None:
    """The newest finished version of these attempts that verifies and is of this snapshot."""
    for token in reversed(tokens):
        for place, published in ((folder.published(token), True), (folder.staged(token), False)):
            if not place.is_dir():
                continue
            try:
                verify(place)
                info = VersionInfo.read(place)
            except ManifestError as error:
                logger.warning("what attempt %s left is not whole: %s", token, error)
                continue
            if info.snapshot_hash == snapshot_hash:
                return Found(token, published)
    return None


def publish_and_register(context: Context, round_: Round, token: UUID, folder: Folder, found: Found) -> Version:
    """Publish the version that attempt ``found.token`` finished, and register it; the round is done.

    Raises:
        RoundFailedError: it does not verify.
        LeaseLostError: another worker holds the round; nothing was registered.
    """
    version_id = found.token if found.published else token
    final = folder.published(version_id)
    try:
        digest = verify(final if found.published else folder.staged(found.token))
        if not found.published:
            with transaction(context.factory) as db:  # the last look before something becomes visible
                service.heartbeat(db, round_.id, token, settings=context.settings)
            publish(folder.staged(found.token), final)
        check_base(final)
        info = VersionInfo.read(final)
    except ManifestError as error:
        raise RoundFailedError(
            "version_damaged",
            f"The trained version is damaged: {error}. Check the data directory's disk, then retry the round.",
            folder.log_tail(),
        ) from error
    with transaction(context.factory) as db:
        return service.register_version(
            db, db.get_one(Round, round_.id), token, version_id=version_id, digest=digest, info=info
        )


def remove_unregistered(context: Context, folder: Folder, tokens: Sequence[UUID]) -> None:
    """Remove what these attempts published and nobody registered. Only for a round that has ended, or its holder."""
    with transaction(context.factory) as db:
        registered = set(db.scalars(select(Version.id).where(Version.id.in_(tokens))))
    for token in tokens:
        if token not in registered and folder.published(token).is_dir():
            logger.warning("removing version directory %s: it was never registered", token)
            shutil.rmtree(folder.published(token), ignore_errors=True)
