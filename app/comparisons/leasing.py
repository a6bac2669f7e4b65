"""Handing comparisons to reviewers: what they hold already, a check that is due, work from the queue, in that order."""

from datetime import datetime
from random import Random, SystemRandom
from uuid import UUID

from sqlalchemy.orm import Session

from app.comparisons import standings, stock, wake
from app.comparisons.claiming import claim, reclaim
from app.comparisons.holding import expire_leases, in_hand
from app.comparisons.records import Leased
from app.db.base import utcnow
from app.db.tables import Project
from app.projects.archived import refuse_archived
from app.projects.queue import queue_of

_RNG = SystemRandom()
"""Where checks fall is nobody's to foretell."""


def lease_next(
    db: Session, *, project: Project, reviewer_id: UUID, now: datetime | None = None, rng: Random = _RNG
) -> Leased | None:
    """Hand the reviewer a comparison, for ``project.lease_seconds``; null when none is ready.

    A lease that still runs is given again: the one last shown, then what waits behind it. Otherwise the first free
    slot of a comparison the reviewer never had; failing that, slots whose leases ran out are freed, and the
    reviewer's own lapsed ones may come back. What a reviewer skipped does not. Wakes the refill when the buffer is
    below half.

    Where the project checks its reviewers, the comparison may be a check (``app.comparisons.checks``); in a
    qualification round it is. A reviewer in quarantine is given nothing new. ``rng`` decides what and when.

    Raises:
        ProjectArchivedError: nobody is handed anything there.
    """
    now = now or utcnow()
    return _next(db, project, reviewer_id, now, shown_at=now, rng=rng)


def lease_ahead(
    db: Session,
    *,
    project: Project,
    reviewer_id: UUID,
    holding: UUID,
    showing_since: datetime | None = None,
    now: datetime | None = None,
    rng: Random = _RNG,
) -> Leased | None:
    """Hand the reviewer one more comparison, to be ready when the one they are ``holding`` (its lease) is judged.

    A lease like any other: it takes a slot, expires, and is given again by ``lease_next``. Its time begins anew when
    it is shown (``show_lease``, or ``lease_next``). Asked twice, it is the same one. With ``showing_since``, the one
    they are holding waited behind another, too, and is before their eyes since then (``show_lease``).
    """
    now = now or utcnow()
    return _next(db, project, reviewer_id, now, holding=holding, showing_since=showing_since, shown_at=None, rng=rng)


def _next(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    now: datetime,
    *,
    shown_at: datetime | None,
    holding: UUID | None = None,
    showing_since: datetime | None = None,
    rng: Random,
) -> Leased | None:
    refuse_archived(project)
    found = in_hand(db, project, reviewer_id, now, shown_at=shown_at, holding=holding, showing_since=showing_since)
    if found:
        return found
    queue = queue_of(project.queue)
    stock.keep_order(db, project, queue.order)
    turn = standings.turn(db, project=project, reviewer_id=reviewer_id, queue=queue, now=now, rng=rng)
    leased = None
    if turn.check is not None:
        leased = claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding, only=turn.check)
    if leased is None and turn.work:
        leased = claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
        if leased is None and expire_leases(db, now=now, project_id=project.id):
            leased = claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
    if leased is None and turn is not standings.NOTHING:
        leased = reclaim(db, project, reviewer_id, now, shown_at=shown_at, work=turn.work)
    if leased is not None:
        standings.count(db, project=project, reviewer_id=reviewer_id, turn=turn)
    wake.refill_if_low(db, project, now=now)
    return leased
