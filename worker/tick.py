"""The reconciler: every few seconds it asks Postgres what is due, and wakes whoever does it.

Everything here may run twice at once (two beats, two workers) and do nothing the second time. It is what brings the
loop back after Redis was wiped, a message was lost, or a worker was killed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Text, cast, func, not_, or_, select

from app.comparisons.pace import measure
from app.comparisons.queries import ready_count
from app.comparisons.service import expire_leases
from app.db.session import transaction
from app.db.tables import OutboxMessage, Project, Prompt, Version
from app.journal import ticks
from app.journal.outbox import enqueue, forget_sent, send_pending
from app.journal.queues import REFILL
from app.reviewers import watch
from app.rounds import blind
from app.rounds.deciding import decide, open_gates
from app.rounds.due import look
from worker.about import project_lines
from worker.context import Context
from worker.rounds.sweep import sweep
from worker.serving import serve

logger = logging.getLogger(__name__)


def tick(context: Context) -> None:
    """Look once.

    At lapsed leases, due rounds and imports, gates that can decide, rounds without a worker, low buffers, wake-ups
    that were not sent, and what the engine serves. That it looks is on record: `hone doctor` misses it otherwise.
    """
    with transaction(context.factory) as db:
        ticks.record(db)
    with transaction(context.factory) as db:
        expire_leases(db)
    with transaction(context.factory) as db:
        look(db)
    with transaction(context.factory) as db:
        judging = open_gates(db)
    for version_id, project_id in judging:
        with _apart(context, project_id), transaction(context.factory) as db:
            decide(db, version_id, settings=context.settings)
    for project_id in low_projects(context):
        with transaction(context.factory) as db:
            enqueue(db, REFILL, project_id)
    with transaction(context.factory) as db:
        forget_sent(db)
    watch_reviewers(context)
    sweep(context)
    send_pending(context.factory, context.settings)
    serve(context)


def watch_reviewers(context: Context) -> None:
    """Look at the reviewers of projects that want bad faith quarantined at once."""
    with transaction(context.factory) as db:
        due = watch.due(db)
    for project_id in due:
        with _apart(context, project_id), transaction(context.factory) as db:
            watch.look(db, db.get_one(Project, project_id))


@contextmanager
def _apart(context: Context, project_id: UUID) -> Iterator[None]:
    """What goes wrong with one project is logged as its own, and keeps no other from its turn."""
    with project_lines(context.factory, project_id):
        try:
            yield
        except SoftTimeLimitExceeded:  # of the whole tick
            raise
        except Exception:
            logger.exception("the tick goes on without this project")


def low_projects(context: Context) -> list[UUID]:
    """Projects whose buffer is not full, that have a model and prompts, and that nobody fills or backs off from."""
    now = func.clock_timestamp()
    has_model = select(Version.id).where(Version.project_id == Project.id, Version.state == "current").exists()
    has_prompt = (
        select(Prompt.id)
        .where(Prompt.project_id == Project.id, Prompt.archived_at.is_(None), Prompt.problem.is_(None))
        .exists()
    )
    asked = (
        select(OutboxMessage.id)
        .where(
            OutboxMessage.sent_at.is_(None),
            OutboxMessage.task == REFILL,
            OutboxMessage.args[0].astext == cast(Project.id, Text),
        )
        .exists()
    )
    with transaction(context.factory) as db:
        projects = db.scalars(
            select(Project).where(
                Project.archived_at.is_(None),
                or_(Project.refill_lease_until.is_(None), Project.refill_lease_until < now),
                or_(Project.refill_due_at.is_(None), Project.refill_due_at <= now),
                has_model,
                has_prompt,
                not_(asked),
            )
        ).all()
        return [
            project.id
            for project in projects
            if ready_count(db, project) < measure(db, project) or blind.missing(db, project)
        ]
