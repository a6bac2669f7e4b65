"""The worker's tasks by name, and the queue each travels in. The product sends by name; it never imports the worker."""

RUN_ROUNDS = "hone.run_rounds"
REFILL = "hone.refill"
TICK = "hone.tick"

ROUNDS_QUEUE = "rounds"
REFILL_QUEUE = "refill"

TASK_QUEUES = {RUN_ROUNDS: ROUNDS_QUEUE, REFILL: REFILL_QUEUE, TICK: REFILL_QUEUE}
"""Rounds take minutes to hours and travel alone; what must stay quick shares the other queue."""
