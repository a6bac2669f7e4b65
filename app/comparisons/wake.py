"""Wake-ups that comparing gives rise to: a buffer that runs low, a vote that makes a round due.

Only hints, written to the outbox in the vote's own transaction: the reconciler finds the same work without them.
Each is written at most once while an earlier one is unsent, so a busy hour does not flood the queue.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.direct import Direct
from app.db.tables import Project
from app.journal.outbox import enqueue
from app.journal.queues import REFILL, TICK

# Looked up slot by slot: joined, all assignments were read to find out about a few slots.
# The counts stop where they decide nothing more, so their cost does not grow with the buffer or the votes.
_LOW = Direct(
    text("""
    SELECT ready, ready < :half AND NOT EXISTS (
        SELECT 1 FROM outbox
        WHERE sent_at IS NULL AND task = :task AND args = jsonb_build_array(CAST(:argument AS text))
    ) AS low
    FROM (
        SELECT count(*) AS ready FROM (
            SELECT 1 FROM comparison_slots s
            WHERE s.project_id = :project AND s.state = 'free' AND s.slot = 0 AND s.queue_key < 'infinity'
              AND (
                SELECT a.id FROM assignments a WHERE a.comparison_id = s.comparison_id
                  AND a.state NOT IN ('expired', 'feedback') LIMIT 1
            ) IS NULL
            LIMIT :half + :spare
        ) places
    ) counted
""")
)
SPARE = 16
"""So many more than half are counted: as many pairs are handed out before it is worth counting again."""
SPARE_SECONDS = 1.0
"""How long a count is relied on: other processes hand pairs out as well, and admins withdraw them."""

_DUE = text("""
    SELECT (
        SELECT count(*) FROM (
            SELECT 1 FROM assignments a
            JOIN comparisons c ON c.id = a.comparison_id AND c.purpose = 'work'
            JOIN prompts p ON p.id = c.prompt_id AND NOT p.held_out
            WHERE a.project_id = :project AND a.state = 'voted' AND a.frozen_at IS NULL
            LIMIT :every + 1
        ) unread
    ) = :every AND NOT EXISTS (SELECT 1 FROM outbox WHERE sent_at IS NULL AND task = :task)
""")


@dataclass(slots=True)
class _Room:
    """How far a buffer was from being low, when it was counted last."""

    half: int
    pairs: int
    until: float
    """By the monotonic clock."""

    def take(self, half: int) -> bool:
        """Whether one pair fewer cannot make it low."""
        if self.half != half or self.pairs <= 0 or time.monotonic() >= self.until:
            return False
        self.pairs -= 1
        return True


_rooms: dict[UUID, _Room] = {}
_MOST_ROOMS = 1000


def refill_if_low(db: Session, project: Project, *, now: datetime) -> bool:
    """Ask for a refill when fewer than half of the comparisons that are kept are ready, as ``ready_count`` has it.

    Called for every pair that is handed out; counts when so many were, since the last count, that it can matter. Not
    while a worker is filling already, and not before a backoff is over.
    """
    if any(until and until > now for until in (project.refill_lease_until, project.refill_due_at)):
        return False
    half = ((project.refill_target or project.buffer_size) + 1) // 2
    room = _rooms.get(project.id)
    if room is not None and room.take(half):
        return False
    values = {"project": project.id, "half": half, "spare": SPARE, "task": REFILL, "argument": str(project.id)}
    row = _LOW.one(db, values)
    if len(_rooms) >= _MOST_ROOMS:
        _rooms.clear()
    _rooms[project.id] = _Room(half, row["ready"] - half, time.monotonic() + SPARE_SECONDS)
    if not row["low"]:
        return False
    enqueue(db, REFILL, str(project.id))
    return True


def round_if_due(db: Session, *, project_id: object, every: int | None) -> bool:
    """Ask for a look at due rounds by the vote that makes it ``every`` unread ones. The tick itself decides.

    Later votes do not ask again (a round may be running), and two votes at once may both miss the moment: the
    reconciler's own tick comes anyway.
    """
    if every is None:
        return False
    if not db.execute(_DUE, {"project": project_id, "every": every, "task": TICK}).scalar_one():
        return False
    enqueue(db, TICK)
    return True
