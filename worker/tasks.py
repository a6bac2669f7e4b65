"""The tasks: each takes ids, finds its context, makes one call. What is to be done is decided by what Postgres says."""

from uuid import UUID

from app.journal.queues import REFILL, RUN_ROUNDS, TICK
from worker.celery_app import app, context
from worker.refill import refill
from worker.rounds import run_rounds
from worker.tick import tick


@app.task(name=RUN_ROUNDS)
def run_rounds_task() -> None:
    """Work through the rounds that wait."""
    run_rounds(context())


@app.task(name=REFILL, soft_time_limit=900, time_limit=960)
def refill_task(project_id: str) -> None:
    """Fill a project's buffer of ready comparisons."""
    refill(context(), UUID(project_id))


@app.task(name=TICK, soft_time_limit=120, time_limit=180)
def tick_task() -> None:
    """Find what is due."""
    tick(context())
