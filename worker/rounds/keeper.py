"""The heartbeat of a round, beside whatever its worker is busy with."""

import logging
import threading
import time
from contextvars import copy_context
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.db.session import transaction
from app.rounds import service
from app.rounds.errors import LeaseLostError
from worker.context import Context
from worker.rounds.errors import RoundCancelledError, WorkerStoppingError
from worker.rounds.machine import Slot

logger = logging.getLogger(__name__)

_BEATS_PER_LEASE = 3


class Keeper:
    """Keeps the lease in a thread of its own while the ``with`` block lasts; the job asks ``check`` how it stands."""

    def __init__(self, context: Context, round_id: UUID, token: UUID, machine: Slot | None = None) -> None:
        self._context = context
        self._round_id, self._token, self._machine = round_id, token, machine
        self._lost = self._cancelled = False
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name=f"round-{round_id}", daemon=True
        )

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; the lease is left to whatever the job decided."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Return if the job shall go on.

        Raises:
            LeaseLostError: somebody else holds the round, or may.
            RoundCancelledError, WorkerStoppingError: it shall end.
        """
        if self._lost:
            raise LeaseLostError(self._round_id, self._token)
        if self._cancelled:
            raise RoundCancelledError
        if self._context.stopping:
            raise WorkerStoppingError

    def _run(self) -> None:
        lease_seconds = self._context.settings.round_lease_seconds
        beaten = time.monotonic()
        while not self._ended.wait(lease_seconds / _BEATS_PER_LEASE):
            asked = time.monotonic()
            if self._machine is not None:
                self._machine.touch()
            try:
                with transaction(self._context.factory) as db:
                    beat = service.heartbeat(db, self._round_id, self._token, settings=self._context.settings)
            except LeaseLostError:
                self._lost = True
                return
            except SQLAlchemyError as error:
                logger.warning("round %s: no heartbeat: %s", self._round_id, error)
                if time.monotonic() - beaten > lease_seconds:  # by now another worker may hold it
                    self._lost = True
                    return
            else:
                beaten = asked
                self._cancelled = self._cancelled or beat.cancel_requested
