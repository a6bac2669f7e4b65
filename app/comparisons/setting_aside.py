"""Taking a reviewer's unread votes out of the count, and bringing them back: what quarantine does to the queue.

Slots stay exact throughout: what is set aside frees its slot for somebody else's vote; what comes back takes a slot
that is still free, or is surplus. Lock order: comparison → standing → slot → assignment. All comparisons that the
reviewer ever had are locked first, so that no vote of theirs slips in between.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

_LOCK = text("""
    SELECT c.id FROM comparisons c
    WHERE c.id IN (SELECT a.comparison_id FROM assignments a
                   WHERE a.project_id = :project AND a.reviewer_id = :reviewer AND a.frozen_at IS NULL)
    ORDER BY c.id
    FOR NO KEY UPDATE
""")

_FREE = text("""
    WITH held AS (
        SELECT s.comparison_id, s.slot, c.state IN ('open', 'complete') AS queued
        FROM comparison_slots s
        JOIN assignments a ON a.id = s.assignment_id
        JOIN comparisons c ON c.id = s.comparison_id
        WHERE a.project_id = :project AND a.reviewer_id = :reviewer AND a.frozen_at IS NULL
          AND (a.state = 'leased' OR (a.state = 'voted' AND c.purpose = 'work'))
        ORDER BY s.comparison_id, s.slot
        FOR UPDATE OF s
    )
    UPDATE comparison_slots s
    SET state = CASE WHEN held.queued THEN 'free' ELSE 'closed' END, assignment_id = NULL, lease_expires_at = NULL
    FROM held WHERE s.comparison_id = held.comparison_id AND s.slot = held.slot
""")

_SET_ASIDE = text("""
    UPDATE assignments a SET state = CASE a.state WHEN 'voted' THEN 'set_aside' ELSE 'expired' END
    FROM comparisons c
    WHERE c.id = a.comparison_id AND a.project_id = :project AND a.reviewer_id = :reviewer AND a.frozen_at IS NULL
      AND (a.state = 'leased' OR (a.state = 'voted' AND c.purpose = 'work'))
    RETURNING a.comparison_id, a.state
""")

_REOPEN = text("""
    UPDATE comparisons c SET state = 'open', closed_at = NULL
    WHERE c.id = ANY(:comparisons) AND c.state = 'complete'
      AND EXISTS (SELECT 1 FROM comparison_slots s WHERE s.comparison_id = c.id AND s.state = 'free')
""")

# The free slot that shows the sides as this reviewer saw them, if there is one.
_TAKE = text("""
    WITH free AS (
        SELECT DISTINCT ON (a.id) a.id AS assignment_id, s.comparison_id, s.slot
        FROM assignments a
        JOIN comparisons c ON c.id = a.comparison_id AND c.state = 'open'
        JOIN comparison_slots s ON s.comparison_id = c.id AND s.state = 'free'
        WHERE a.project_id = :project AND a.reviewer_id = :reviewer AND a.state = 'set_aside'
        ORDER BY a.id, ((s.slot % 2 = 1) = (a.left_side <> c.first_left)) DESC, s.slot
    ), taken AS (
        UPDATE comparison_slots s SET state = 'voted', assignment_id = free.assignment_id
        FROM free WHERE s.comparison_id = free.comparison_id AND s.slot = free.slot AND s.state = 'free'
        RETURNING s.assignment_id, s.slot
    )
    UPDATE assignments a SET state = 'voted', slot = taken.slot
    FROM taken WHERE a.id = taken.assignment_id
    RETURNING a.comparison_id
""")

_SURPLUS = text("""
    UPDATE assignments SET state = 'surplus'
    WHERE project_id = :project AND reviewer_id = :reviewer AND state = 'set_aside'
    RETURNING id
""")

_COMPLETE = text("""
    UPDATE comparisons c SET state = 'complete', closed_at = clock_timestamp()
    WHERE c.id = ANY(:comparisons) AND c.state = 'open'
      AND NOT EXISTS (SELECT 1 FROM comparison_slots s WHERE s.comparison_id = c.id AND s.state <> 'voted')
""")

_LOCK_SLOTS = text("""
    SELECT s.slot FROM comparison_slots s
    WHERE s.comparison_id IN (SELECT a.comparison_id FROM assignments a
                              WHERE a.project_id = :project AND a.reviewer_id = :reviewer AND a.state = 'set_aside')
    ORDER BY s.comparison_id, s.slot
    FOR UPDATE
""")


# Left out by ``app.preferences.reading`` as long as the quarantine lasts.
_READ = text("""
    SELECT count(*) FROM assignments a JOIN comparisons c ON c.id = a.comparison_id AND c.purpose = 'work'
    WHERE a.project_id = :project AND a.reviewer_id = :reviewer AND a.state = 'voted' AND a.frozen_at IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class SetAside:
    """What a quarantine does to votes."""

    unread: int
    """No round has read them: they lose their places and count nowhere."""
    read: int
    """A round has read them: they keep their places, and later rounds leave them out."""


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """What the end of a quarantine does to them."""

    counted: int
    surplus: int
    """Others have filled their places meanwhile."""
    read: int
    """A round had read them: later rounds read them again."""


def lock(db: Session, *, project_id: UUID, reviewer_id: UUID) -> None:
    """Lock every comparison on which the reviewer's word may still change."""
    db.execute(_LOCK, {"project": project_id, "reviewer": reviewer_id}).all()


def set_aside(db: Session, *, project_id: UUID, reviewer_id: UUID) -> SetAside:
    """Free the slots of the reviewer's leases and of the votes that no round has read.

    Votes that a round has read keep their places; later rounds leave them out (``app.preferences.reading``). Checks
    stay as they are: they are what the reviewer is judged by.
    """
    names = {"project": project_id, "reviewer": reviewer_id}
    db.execute(_FREE, names)
    changed = db.execute(_SET_ASIDE, names).all()
    db.execute(_REOPEN, {"comparisons": [row.comparison_id for row in changed]})
    unread = sum(row.state == "set_aside" for row in changed)
    return SetAside(unread, db.execute(_READ, names).scalar_one())


def bring_back(db: Session, *, project_id: UUID, reviewer_id: UUID) -> BroughtBack:
    """Undo ``set_aside``; votes whose place others have taken are kept as surplus."""
    names = {"project": project_id, "reviewer": reviewer_id}
    read = db.execute(_READ, names).scalar_one()
    db.execute(_LOCK_SLOTS, names).all()
    back = db.execute(_TAKE, names).scalars().all()
    surplus = len(db.execute(_SURPLUS, names).all())
    db.execute(_COMPLETE, {"comparisons": list(back)})
    return BroughtBack(len(back), surplus, read)
