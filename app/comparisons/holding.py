"""Leases that are held: shown, shown again, kept while somebody reads, and given back when their time is over.

Lock order, kept everywhere in this room: comparison → slot → assignment.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, bindparam, select, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons.records import Leased
from app.comparisons.shown import SHOWN, SHOWN_FROM, to_leased
from app.db.base import utcnow
from app.db.direct import Direct
from app.db.tables import Assignment, Project

LONGEST_LEASES = 8
"""However often a lease is kept, it ends this many times the project's ``lease_seconds`` after the pair was shown."""

# A lease on a pair that was withdrawn or flagged since is not shown again, unless the reviewer had voted on it
# and took that back: they are in the middle of changing their mind.
_HELD_SQL = f"""
    SELECT {SHOWN}, a.shown_at, true AS holds_slot,
           (SELECT v.shown_choice FROM votes v WHERE v.assignment_id = a.id
            ORDER BY v.revision DESC LIMIT 1) AS previous
    FROM assignments a {SHOWN_FROM}
    WHERE a.reviewer_id = :reviewer AND a.project_id = :project AND a.state = 'leased' AND a.expires_at > :now
      AND (:holding IS NULL OR a.id <> :holding)
      AND (c.state = 'open' OR EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = a.id))
    ORDER BY a.shown_at DESC NULLS LAST, a.leased_at DESC, a.id DESC
    LIMIT 1
"""  # noqa: S608 - composed of constants
_HOLDING = bindparam("holding", type_=PG_UUID)
_HELD = Direct(text(_HELD_SQL).bindparams(_HOLDING))

# A pair that waited behind another comes to the reviewer's eyes: its time begins, and not before it was handed out,
# whatever the page says. Slot before assignment, as always; and no waiting, for a vote on another comparison may be in
# the same transaction.
_SHOW_SQL = """
    WITH held AS (
        SELECT s.comparison_id, s.slot, s.assignment_id, greatest(:since, a.leased_at) AS since
        FROM comparison_slots s JOIN assignments a ON a.id = s.assignment_id
        WHERE a.id = :assignment AND a.reviewer_id = :reviewer AND a.project_id = :project
          AND a.state = 'leased' AND a.shown_at IS NULL AND s.state = 'leased'
        FOR UPDATE OF s SKIP LOCKED
    ), taken AS (
        UPDATE comparison_slots s SET lease_expires_at = held.since + make_interval(secs => :lease_seconds)
        FROM held WHERE s.comparison_id = held.comparison_id AND s.slot = held.slot
          AND s.assignment_id = held.assignment_id
        RETURNING s.assignment_id, held.since, s.lease_expires_at
    ), mine AS (
        UPDATE assignments a SET shown_at = taken.since, expires_at = taken.lease_expires_at
        FROM taken WHERE a.id = taken.assignment_id AND a.state = 'leased'
        RETURNING a.id
    )
"""
_SINCE = bindparam("since", type_=DateTime(timezone=True))
_SHOW = Direct(text(f"{_SHOW_SQL} SELECT count(*) FROM mine").bindparams(_SINCE))  # noqa: S608 - composed of constants

# Both in one round trip: what is shown is not what is asked for.
_SHOW_AND_HELD = Direct(text(_SHOW_SQL + _HELD_SQL).bindparams(_HOLDING, _SINCE))

# Slot before assignment, as always.
_EXTEND = text("""
    WITH held AS (
        SELECT s.comparison_id, s.slot, a.id,
               greatest(a.expires_at, least(
                 CAST(:now AS timestamptz) + make_interval(secs => p.lease_seconds),
                 coalesce(a.shown_at, a.leased_at) + make_interval(secs => p.lease_seconds * :longest))) AS until
        FROM comparison_slots s
        JOIN assignments a ON a.id = s.assignment_id
        JOIN projects p ON p.id = a.project_id
        WHERE a.id = :assignment AND a.reviewer_id = :reviewer AND a.state = 'leased' AND s.state = 'leased'
          AND a.expires_at > :now
        FOR UPDATE OF s
    ), kept AS (
        UPDATE comparison_slots s SET lease_expires_at = held.until
        FROM held
        WHERE s.comparison_id = held.comparison_id AND s.slot = held.slot AND s.assignment_id = held.id
          AND s.state = 'leased'
        RETURNING held.id, held.until
    )
    UPDATE assignments a SET expires_at = kept.until
    FROM kept WHERE a.id = kept.id AND a.state = 'leased'
    RETURNING a.expires_at
""")

_LOAD = Direct(
    text(f"""
    SELECT {SHOWN},
           EXISTS (SELECT 1 FROM comparison_slots s WHERE s.assignment_id = a.id) AS holds_slot,
           (SELECT v.shown_choice FROM votes v WHERE v.assignment_id = a.id
            ORDER BY v.revision DESC LIMIT 1) AS previous
    FROM assignments a {SHOWN_FROM}
    WHERE a.id = :assignment AND a.reviewer_id = :reviewer
""")  # noqa: S608 - composed of constants
)

_EXPIRE = text("""
    WITH gone AS (
        SELECT s.comparison_id, s.slot, s.assignment_id
        FROM comparison_slots s
        WHERE s.state = 'leased' AND s.lease_expires_at <= :now
          AND (CAST(:project AS uuid) IS NULL OR s.project_id = :project)
        ORDER BY s.comparison_id, s.slot
        FOR UPDATE OF s SKIP LOCKED
    ), freed AS (
        UPDATE comparison_slots s
        SET state = CASE WHEN c.state = 'open' THEN 'free' ELSE 'closed' END,
            assignment_id = NULL, lease_expires_at = NULL
        FROM gone JOIN comparisons c ON c.id = gone.comparison_id
        WHERE s.comparison_id = gone.comparison_id AND s.slot = gone.slot
    ), lapsed AS (
        UPDATE assignments a SET state = 'expired' FROM gone WHERE a.id = gone.assignment_id AND a.state = 'leased'
    )
    SELECT count(*) FROM gone
""").bindparams(bindparam("project", type_=PG_UUID))


def in_hand(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    now: datetime,
    *,
    shown_at: datetime | None,
    holding: UUID | None,
    showing_since: datetime | None = None,
) -> Leased | None:
    """The lease that runs: the one last shown, then what waits behind it; null if there is none but ``holding``.

    ``showing_since``: ``holding`` is before the reviewer's eyes since then, as ``show_lease`` has it.
    """
    values = {"reviewer": reviewer_id, "project": project.id, "now": now, "holding": holding}
    if holding is not None and showing_since is not None:
        row = _SHOW_AND_HELD.first(db, values | _shown_values(project, reviewer_id, holding, showing_since))
    else:
        row = _HELD.first(db, values)
    if row is None:
        return None
    if shown_at is not None and row["shown_at"] is None:
        show_lease(db, project=project, reviewer_id=reviewer_id, assignment_id=row["assignment_id"], now=shown_at)
        return load_lease(db, reviewer_id=reviewer_id, assignment_id=row["assignment_id"])
    return to_leased(row)


def show_lease(
    db: Session, *, project: Project, reviewer_id: UUID, assignment_id: UUID, now: datetime | None = None
) -> bool:
    """A comparison that was leased ahead is before the reviewer's eyes now; whether it was and still is theirs.

    One whose lease ran out meanwhile stays as it is: a vote on it finds a free slot or is surplus, like any late one.
    """
    return bool(_SHOW.value(db, _shown_values(project, reviewer_id, assignment_id, now or utcnow())))


def _shown_values(project: Project, reviewer_id: UUID, assignment_id: UUID, since: datetime) -> dict[str, Any]:
    return {
        "project": project.id,
        "reviewer": reviewer_id,
        "assignment": assignment_id,
        "since": since,
        "lease_seconds": project.lease_seconds,
    }


def extend_lease(
    db: Session, *, reviewer_id: UUID, assignment_id: UUID, now: datetime | None = None
) -> datetime | None:
    """Keep a lease for another ``lease_seconds``, as long as its reviewer is at work; until when, or null if it has
    ended. Kept again and again it ends ``LONGEST_LEASES`` times that long after it was shown."""
    values = {"assignment": assignment_id, "reviewer": reviewer_id, "now": now or utcnow(), "longest": LONGEST_LEASES}
    return db.execute(_EXTEND, values).scalar_one_or_none()


def lease_on(db: Session, *, reviewer_id: UUID, comparison_id: UUID) -> UUID | None:
    """The lease by which this reviewer was handed the comparison, whatever became of it; null if it never was."""
    lease = select(Assignment.id).where(
        Assignment.comparison_id == comparison_id, Assignment.reviewer_id == reviewer_id
    )
    return db.execute(lease).scalar_one_or_none()


def load_lease(db: Session, *, reviewer_id: UUID, assignment_id: UUID) -> Leased | None:
    """What was handed to this reviewer, whatever became of it since; null if nothing was."""
    row = _LOAD.first(db, {"assignment": assignment_id, "reviewer": reviewer_id})
    return to_leased(row) if row else None


def expire_leases(db: Session, *, now: datetime | None = None, project_id: UUID | None = None) -> int:
    """Free the slots whose leases ran out (close them, where the comparison left the queue); how many."""
    return int(db.execute(_EXPIRE, {"now": now or utcnow(), "project": project_id}).scalar_one())
