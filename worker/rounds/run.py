"""Working through the rounds that wait, one at a time on a machine."""

import errno
import logging
import traceback
from collections.abc import Callable
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.session import transaction
from app.journal.outbox import enqueue, send_pending
from app.journal.queues import REFILL
from app.rounds import service
from app.rounds.errors import LeaseLostError
from app.rounds.leases import Claimed
from worker.about import project_lines
from worker.context import Context
from worker.rounds.errors import RoundCancelledError, RoundFailedError, WorkerStoppingError
from worker.rounds.folder import Folder
from worker.rounds.job import Job, forget
from worker.rounds.keeper import Keeper
from worker.rounds.machine import Slot, slot

logger = logging.getLogger(__name__)


def run_rounds(context: Context) -> int:
    """Claim and do what waits until nothing does; how many rounds were worked on.

    One process on a machine does this at a time, for a round wants the whole device; the others return at once, and
    the tick calls again for whatever came in meanwhile.
    """
    worked = 0
    with slot(context.settings) as mine:
        while mine is not None and mine.is_mine() and not context.stopping:
            with transaction(context.factory) as db:
                claimed = service.claim(db, settings=context.settings)
            if claimed is None:
                break
            with project_lines(context.factory, claimed.round.project_id, round=str(claimed.round.id)):
                work_on(context, claimed, mine)
            worked += 1
    return worked


def work_on(context: Context, claimed: Claimed, machine: Slot | None = None) -> None:
    """Do one claimed round to an end: done, failed, cancelled, or given back."""
    round_id, token = claimed.round.id, claimed.token
    tokens = [*claimed.earlier, token]
    with Keeper(context, round_id, token, machine) as keeper:
        try:
            _try(context, claimed, keeper)
        except LeaseLostError:
            logger.warning("round %s was lost to another worker, or has ended; nothing was written", round_id)
        except RoundCancelledError:
            if _end(context, lambda db: service.end_cancelled(db, round_id, token)):
                forget(context, round_id, tokens)
        except WorkerStoppingError:
            _end(context, lambda db: service.release(db, round_id, token, reason="the worker was stopped"))
        except RoundFailedError as failure:
            _fail(context, round_id, token, failure)
        except SQLAlchemyError:
            # Postgres is away, or so it seems: the lease runs out, and the round is taken up where it is.
            logger.exception("round %s: the database failed", round_id)
        except OSError as error:
            _fail(context, round_id, token, _explain_os(error))
        except Exception as error:
            logger.exception("round %s", round_id)
            message = f"Something unforeseen happened: {type(error).__name__}: {error}. Look at the log, then retry."
            _fail(context, round_id, token, RoundFailedError("internal", message, traceback.format_exc()[-8000:]))
    _wake_refill(context, claimed.round.project_id)


def _try(context: Context, claimed: Claimed, keeper: Keeper) -> None:
    if claimed.worn_out:
        raise RoundFailedError(
            "worker_lost",
            f"Its workers died {claimed.takeovers} times. Most often the machine ran out of memory: look at the "
            "system's log, give it more or train smaller, then retry the round.",
            Folder.of(context.settings, claimed.round.id).log_tail(),
        )
    if claimed.round.cancel_requested_at is not None:
        raise RoundCancelledError
    version = Job(context, claimed, keeper).run()
    logger.info("round %s made version %s", claimed.round.id, version.id)


def _end(context: Context, change: Callable[[Session], None]) -> bool:
    """Make a last change to the round; False if it was lost meanwhile."""
    try:
        with transaction(context.factory) as db:
            change(db)
    except LeaseLostError as error:
        logger.warning("%s", error)
        return False
    return True


def _fail(context: Context, round_id: UUID, token: UUID, failure: RoundFailedError) -> None:
    logger.error("round %s failed (%s): %s", round_id, failure.code, failure.message)
    _end(
        context,
        lambda db: service.fail(
            db, round_id, token, code=failure.code, message=failure.message, log_tail=failure.log_tail
        ),
    )


def _explain_os(error: OSError) -> RoundFailedError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RoundFailedError(
            "out_of_disk", f"No space is left ({error}). Free some on the data directory's disk, then retry the round."
        )
    return RoundFailedError(
        "files", f"A file could not be used: {error}. Check the data directory and its permissions, then retry."
    )


def _wake_refill(context: Context, project_id: UUID) -> None:
    with transaction(context.factory) as db:
        enqueue(db, REFILL, project_id)
    send_pending(context.factory, context.settings)
