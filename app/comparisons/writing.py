"""Writing a vote and everything it changes in one statement."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import ARRAY, Integer, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons import changes
from app.comparisons.ballots import meant
from app.comparisons.locking import Locked
from app.comparisons.records import Ballot, Source, meant_of
from app.db.direct import Direct, Row
from app.db.ids import new_id
from app.language import direction

# The key decides first: if another transaction has used it meanwhile, nothing is written at all.
_WRITE = Direct(
    text("""
    WITH vote AS (
        INSERT INTO votes (id, project_id, comparison_id, assignment_id, reviewer_id, revision, choice, shown_choice,
                           strength, comment, reason, criteria, tags, ranking, corrected, surplus, seconds, source,
                           idempotency_key, created_at, mirrored)
        VALUES (:id, :project, :comparison, :assignment, :reviewer, :revision, :choice, :shown_choice,
                :strength, :comment, :reason, :criteria, :tags, :ranking, :corrected, :surplus, :seconds, :source,
                :key, :now, :mirrored)
        ON CONFLICT (reviewer_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, assignment_id, comparison_id, revision, shown_choice, strength, comment, reason, surplus,
                  created_at
    ), mine AS (
        UPDATE assignments
        SET state = :assignment_state, slot = coalesce(:take, slot),
            leased_at = CASE WHEN :assignment_state = 'leased' THEN :now ELSE leased_at END,
            shown_at = CASE WHEN :assignment_state = 'leased' OR shown_at IS NULL THEN :now ELSE shown_at END,
            expires_at = coalesce(:expires, expires_at)
        WHERE id = :assignment AND EXISTS (SELECT 1 FROM vote)
    ), taken AS (
        UPDATE comparison_slots
        SET state = :take_as, assignment_id = :assignment,
            lease_expires_at = CASE WHEN :take_as = 'leased' THEN :expires END
        WHERE comparison_id = :comparison AND slot = :take AND EXISTS (SELECT 1 FROM vote)
    ), released AS (
        UPDATE comparison_slots SET state = :release_as, assignment_id = NULL, lease_expires_at = NULL
        WHERE comparison_id = :comparison AND slot = ANY(:release) AND EXISTS (SELECT 1 FROM vote)
    ), closed AS (
        UPDATE comparisons
        SET state = :comparison_state,
            closed_at = CASE WHEN :comparison_state <> 'open' THEN CAST(:now AS timestamptz) END
        WHERE id = :comparison AND state <> :comparison_state AND EXISTS (SELECT 1 FROM vote)
    )
    SELECT * FROM vote
""").bindparams(
        bindparam("release", type_=ARRAY(Integer)),
        bindparam("take", type_=Integer),
    )
)


def write(
    db: Session,
    locked: Locked,
    change: changes.Change,
    *,
    reviewer_id: UUID,
    ballot: Ballot | None,
    key: str | None,
    source: Source,
    now: datetime,
) -> Row | None:
    """Write the vote (``None``: an undoing) and what it changes; null when the key was taken meanwhile."""
    leased = change.assignment_state == "leased"
    said = meant(ballot or Ballot("skip"), left_side=locked.left_side, shown_order=locked.shown_order)
    values: dict[str, Any] = said | {
        "id": new_id(),
        "project": locked.project_id,
        "comparison": locked.comparison_id,
        "assignment": locked.place.assignment_id,
        "reviewer": reviewer_id,
        "revision": locked.revision + 1,
        "criteria": Jsonb(said["criteria"]),
        "tags": Jsonb(said["tags"]),
        "ranking": None if said["ranking"] is None else Jsonb(said["ranking"]),
        "choice": meant_of(ballot.choice, locked.left_side) if ballot else "undone",
        "shown_choice": said["shown_choice"] if ballot else "undone",
        "seconds": ballot.seconds if ballot else None,
        "surplus": change.surplus,
        "source": source,
        "mirrored": source == "web" and direction() == "rtl",
        "key": key,
        "now": now,
        "expires": now + timedelta(seconds=locked.lease_seconds) if leased else None,
        "assignment_state": change.assignment_state,
        "comparison_state": change.comparison_state,
        "take": change.take,
        "take_as": change.take_as,
        "release": list(change.release),
        "release_as": change.release_as,
    }
    return _WRITE.first(db, values)
