"""Taking a free slot: of work a reviewer never had, of a check that was made for them, or of their own lapsed lease.

A claim takes no lock on the comparison and never waits for a slot (SKIP LOCKED); the foreign keys it writes take KEY
SHARE locks, which do not collide with the FOR NO KEY UPDATE of votes and withdrawals.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, DateTime, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons.holding import in_hand, load_lease
from app.comparisons.records import Leased
from app.comparisons.shown import SHOWN, SHOWN_FROM, lease_values, to_leased
from app.db.direct import Direct
from app.db.ids import new_id
from app.db.tables import Project
from app.projects.queue import queue_of

_ATTEMPTS = 3
"""A claim is tried again when another request of the same reviewer took the same comparison meanwhile."""

# The order in which a ranking's items are shown turns by one from slot to slot, and runs backwards for the next K:
# over K reviewers each item stands once at each place.
_SHOWN_ORDER = """
    (SELECT array_agg(i.position ORDER BY
        CASE WHEN (picked.slot / k.n % 2 = 0) = (picked.first_left = 'a')
             THEN (i.position + picked.slot) % k.n ELSE k.n - (i.position + picked.slot) % k.n END)
     FROM comparison_items i, (SELECT count(*) AS n FROM comparison_items WHERE comparison_id = picked.comparison_id) k
     WHERE i.comparison_id = picked.comparison_id)
"""

# What the queue has for a reviewer: work they never had, neither as itself nor as a check made of it, and where the
# project says so none of their own prompts.
_NOT_PAUSED = """NOT EXISTS (
            SELECT 1 FROM standings st
            WHERE st.project_id = :project AND st.reviewer_id = :reviewer AND st.paused_at IS NOT NULL
          )"""
_WORK = f"""
    c.for_reviewer_id IS NULL AND {_NOT_PAUSED}
          AND NOT EXISTS (
            SELECT 1 FROM comparisons copy WHERE copy.for_reviewer_id = :reviewer AND copy.source_id = c.id
          )
          AND (:own_prompts OR NOT EXISTS (
            SELECT 1 FROM prompts own WHERE own.id = c.prompt_id AND own.created_by = :reviewer
          ))
"""  # noqa: S608 - composed of constants
_MADE_FOR_THEM = "c.id = :only AND c.for_reviewer_id = :reviewer"

# A subquery for each slot looks the pair of comparison and reviewer up in its index. As an anti join, planned when
# the tables were small, each looked through all that the reviewer ever did.
# One round trip: pick the first free slot of a comparison this reviewer never had, lease it, say what to show.
_CLAIM_SQL = f"""
    WITH picked AS (
        SELECT s.comparison_id, s.slot, c.first_left
        FROM comparison_slots s JOIN comparisons c ON c.id = s.comparison_id AND c.state = 'open'
        WHERE s.project_id = :project AND s.state = 'free' AND {{which}}
          AND (
            SELECT seen.id FROM assignments seen
            WHERE seen.comparison_id = s.comparison_id AND seen.reviewer_id = :reviewer
          ) IS NULL
        ORDER BY s.queue_key, s.slot
        LIMIT 1
        FOR UPDATE OF s SKIP LOCKED
    ), a AS (
        INSERT INTO assignments
            (id, project_id, comparison_id, reviewer_id, slot, left_side, shown_order, state, leased_at, shown_at,
             expires_at)
        SELECT :id, :project, comparison_id, :reviewer, slot,
               CASE WHEN slot % 2 = 0 THEN first_left WHEN first_left = 'a' THEN 'b' ELSE 'a' END,
               {_SHOWN_ORDER}, 'leased', :now, :shown_at, :expires
        FROM picked
        ON CONFLICT (comparison_id, reviewer_id) DO NOTHING
        RETURNING *
    ), taken AS (
        UPDATE comparison_slots s SET state = 'leased', assignment_id = a.id, lease_expires_at = a.expires_at
        FROM a WHERE s.comparison_id = a.comparison_id AND s.slot = a.slot
    )
    SELECT a.id IS NOT NULL AS won, {SHOWN}, true AS holds_slot, NULL AS previous
    FROM picked LEFT JOIN a ON true {SHOWN_FROM.replace("JOIN", "LEFT JOIN")}
"""  # noqa: S608 - composed of constants
_TYPES = (
    bindparam("id", type_=PG_UUID),
    bindparam("project", type_=PG_UUID),
    bindparam("reviewer", type_=PG_UUID),
    bindparam("shown_at", type_=DateTime(timezone=True)),
)
_CLAIM = Direct(text(_CLAIM_SQL.format(which=_WORK)).bindparams(*_TYPES, bindparam("own_prompts", type_=Boolean)))
_CLAIM_CHECK = Direct(
    text(_CLAIM_SQL.format(which=_MADE_FOR_THEM)).bindparams(*_TYPES, bindparam("only", type_=PG_UUID))
)

# The reviewer's own lapsed lease, when there is nothing new. The side shown stays what it was: the same person
# must not see the same pair mirrored, and a late vote of the first showing must still mean the same.
_RECLAIM_SQL = f"""
    WITH picked AS (
        SELECT s.comparison_id, s.slot, a.id AS assignment_id
        FROM assignments a
        JOIN comparisons c ON c.id = a.comparison_id AND c.state = 'open'
        JOIN comparison_slots s ON s.comparison_id = a.comparison_id AND s.state = 'free'
        WHERE a.reviewer_id = :reviewer AND a.project_id = :project AND a.state = 'expired' AND {_NOT_PAUSED}
          AND (:work OR c.for_reviewer_id = :reviewer)
        ORDER BY s.queue_key, s.slot
        LIMIT 1
        FOR UPDATE OF s SKIP LOCKED
    ), mine AS (
        UPDATE assignments a
        SET state = 'leased', slot = picked.slot, leased_at = :now, shown_at = :shown_at, expires_at = :expires
        FROM picked WHERE a.id = picked.assignment_id AND a.state = 'expired'
        RETURNING a.id, a.comparison_id, a.slot, a.expires_at
    ), taken AS (
        UPDATE comparison_slots s SET state = 'leased', assignment_id = mine.id, lease_expires_at = mine.expires_at
        FROM mine WHERE s.comparison_id = mine.comparison_id AND s.slot = mine.slot
    )
    SELECT id FROM mine
"""  # noqa: S608 - composed of constants
_RECLAIM = text(_RECLAIM_SQL).bindparams(
    bindparam("shown_at", type_=DateTime(timezone=True)), bindparam("work", type_=Boolean)
)


def claim(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    now: datetime,
    *,
    shown_at: datetime | None,
    holding: UUID | None,
    only: UUID | None = None,
) -> Leased | None:
    """The first free slot of work, or of the check ``only``."""
    statement = _CLAIM if only is None else _CLAIM_CHECK
    which = {"own_prompts": queue_of(project.queue).own_prompts} if only is None else {"only": only}
    for _ in range(_ATTEMPTS):
        values = lease_values(project, reviewer_id, now) | which | {"id": new_id(), "shown_at": shown_at}
        row = statement.first(db, values)
        if row is None:
            return None
        if row["won"]:
            return to_leased(row)
        found = in_hand(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
        if found:
            return found
    return None


def reclaim(
    db: Session, project: Project, reviewer_id: UUID, now: datetime, *, shown_at: datetime | None, work: bool
) -> Leased | None:
    """A slot that the reviewer had and let lapse, where it is free still; without ``work`` one of a check only."""
    values = lease_values(project, reviewer_id, now) | {"shown_at": shown_at, "work": work}
    row = db.execute(_RECLAIM, values).one_or_none()
    return load_lease(db, reviewer_id=reviewer_id, assignment_id=row.id) if row else None
