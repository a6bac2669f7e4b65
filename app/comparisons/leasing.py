"""Handing comparisons to reviewers: the claim, its expiry, and a lease's way back to its reviewer.

Lock order, kept everywhere in this room: comparison → slot → assignment. A claim takes no lock on the
comparison and never waits for a slot (SKIP LOCKED); the foreign keys it writes take KEY SHARE locks, which do
not collide with the FOR NO KEY UPDATE of votes and withdrawals.
"""

from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, DateTime, RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons import standings, stock, wake
from app.comparisons.records import Leased, choice_of
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Project
from app.projects.queue import queue_of

_RNG = SystemRandom()
"""Where checks fall is nobody's to foretell."""

LONGEST_LEASES = 8
"""However often a lease is kept, it ends this many times the project's ``lease_seconds`` after the pair was shown."""

_ATTEMPTS = 3
"""A claim is tried again when another request of the same reviewer took the same comparison meanwhile."""

_SHOWN = """
    a.id AS assignment_id, a.comparison_id, a.project_id, a.leased_at, a.expires_at, a.left_side, a.shown_order,
    c.mode, p.messages, x.text AS text_a, y.text AS text_b,
    CASE WHEN c.mode = 'ranking' THEN (
        SELECT array_agg(t.text ORDER BY i.position)
        FROM comparison_items i JOIN completions t ON t.id = i.completion_id WHERE i.comparison_id = c.id
    ) END AS texts
"""
_SHOWN_FROM = """
    JOIN comparisons c ON c.id = a.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
"""

# A lease on a pair that was withdrawn or flagged since is not shown again, unless the reviewer had voted on it
# and took that back: they are in the middle of changing their mind.
_HELD = text(f"""
    SELECT {_SHOWN}, a.shown_at, true AS holds_slot,
           (SELECT v.shown_choice FROM votes v WHERE v.assignment_id = a.id
            ORDER BY v.revision DESC LIMIT 1) AS previous
    FROM assignments a {_SHOWN_FROM}
    WHERE a.reviewer_id = :reviewer AND a.project_id = :project AND a.state = 'leased' AND a.expires_at > :now
      AND (CAST(:holding AS uuid) IS NULL OR a.id <> :holding)
      AND (c.state = 'open' OR EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = a.id))
    ORDER BY a.shown_at DESC NULLS LAST, a.leased_at DESC, a.id DESC
    LIMIT 1
""")  # noqa: S608 - composed of constants

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

# One round trip: pick the first free slot of a comparison this reviewer never had, lease it, say what to show.
_CLAIM_SQL = f"""
    WITH picked AS (
        SELECT s.comparison_id, s.slot, c.first_left
        FROM comparison_slots s JOIN comparisons c ON c.id = s.comparison_id AND c.state = 'open'
        WHERE s.project_id = :project AND s.state = 'free' AND {{which}}
          AND NOT EXISTS (
            SELECT 1 FROM assignments seen
            WHERE seen.comparison_id = s.comparison_id AND seen.reviewer_id = :reviewer
          )
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
    SELECT a.id IS NOT NULL AS won, {_SHOWN}, true AS holds_slot, NULL AS previous
    FROM picked LEFT JOIN a ON true {_SHOWN_FROM.replace("JOIN", "LEFT JOIN")}
"""  # noqa: S608 - composed of constants
_TYPES = (
    bindparam("id", type_=PG_UUID),
    bindparam("project", type_=PG_UUID),
    bindparam("reviewer", type_=PG_UUID),
    bindparam("shown_at", type_=DateTime(timezone=True)),
)
_CLAIM = text(_CLAIM_SQL.format(which=_WORK)).bindparams(*_TYPES, bindparam("own_prompts", type_=Boolean))
_CLAIM_CHECK = text(_CLAIM_SQL.format(which=_MADE_FOR_THEM)).bindparams(*_TYPES, bindparam("only", type_=PG_UUID))

# The reviewer's own lapsed lease, when there is nothing new. The side shown stays what it was: the same person
# must not see the same pair mirrored, and a late vote of the first showing must still mean the same.
_RECLAIM_SQL = f"""
    WITH picked AS (
        SELECT s.comparison_id, s.slot, a.id AS assignment_id
        FROM assignments a
        JOIN comparisons c ON c.id = a.comparison_id AND c.state = 'open'
        JOIN comparison_slots s ON s.comparison_id = a.comparison_id AND s.state = 'free'
        WHERE a.reviewer_id = :reviewer AND a.project_id = :project AND a.state = 'expired' AND {_NOT_PAUSED}
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
_RECLAIM = text(_RECLAIM_SQL).bindparams(bindparam("shown_at", type_=DateTime(timezone=True)))

# A pair that waited behind another comes to the reviewer's eyes: its time begins. Slot before assignment, as always;
# and no waiting, for a vote on another comparison may be in the same transaction.
_SHOW = text("""
    WITH held AS (
        SELECT s.comparison_id, s.slot, s.assignment_id
        FROM comparison_slots s JOIN assignments a ON a.id = s.assignment_id
        WHERE a.id = :assignment AND a.reviewer_id = :reviewer AND a.project_id = :project
          AND a.state = 'leased' AND a.shown_at IS NULL AND s.state = 'leased'
        FOR UPDATE OF s SKIP LOCKED
    ), taken AS (
        UPDATE comparison_slots s SET lease_expires_at = :expires
        FROM held WHERE s.comparison_id = held.comparison_id AND s.slot = held.slot
          AND s.assignment_id = held.assignment_id
        RETURNING s.assignment_id
    ), mine AS (
        UPDATE assignments a SET shown_at = :now, expires_at = :expires
        FROM taken WHERE a.id = taken.assignment_id AND a.state = 'leased'
        RETURNING a.id
    )
    SELECT count(*) FROM mine
""")

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

_LOAD = text(f"""
    SELECT {_SHOWN},
           EXISTS (SELECT 1 FROM comparison_slots s WHERE s.assignment_id = a.id) AS holds_slot,
           (SELECT v.shown_choice FROM votes v WHERE v.assignment_id = a.id
            ORDER BY v.revision DESC LIMIT 1) AS previous
    FROM assignments a {_SHOWN_FROM}
    WHERE a.id = :assignment AND a.reviewer_id = :reviewer
""")  # noqa: S608 - composed of constants

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
    """
    now = now or utcnow()
    return _next(db, project, reviewer_id, now, shown_at=now, rng=rng)


def lease_ahead(
    db: Session,
    *,
    project: Project,
    reviewer_id: UUID,
    holding: UUID,
    now: datetime | None = None,
    rng: Random = _RNG,
) -> Leased | None:
    """Hand the reviewer one more comparison, to be ready when the one they are ``holding`` (its lease) is judged.

    A lease like any other: it takes a slot, expires, and is given again by ``lease_next``. Its time begins anew when
    it is shown (``show_lease``, or ``lease_next``). Asked twice, it is the same one.
    """
    return _next(db, project, reviewer_id, now or utcnow(), holding=holding, shown_at=None, rng=rng)


def show_lease(
    db: Session, *, project: Project, reviewer_id: UUID, assignment_id: UUID, now: datetime | None = None
) -> bool:
    """A comparison that was leased ahead is before the reviewer's eyes now; whether it was and still is theirs.

    One whose lease ran out meanwhile stays as it is: a vote on it finds a free slot or is surplus, like any late one.
    """
    values = _lease_values(project, reviewer_id, now or utcnow()) | {"assignment": assignment_id}
    return bool(db.execute(_SHOW, values).scalar_one())


def _next(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    now: datetime,
    *,
    shown_at: datetime | None,
    holding: UUID | None = None,
    rng: Random,
) -> Leased | None:
    held = _held(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
    if held:
        return held
    queue = queue_of(project.queue)
    stock.keep_order(db, project, queue.order)
    turn = standings.turn(db, project=project, reviewer_id=reviewer_id, queue=queue, now=now, rng=rng)
    leased = None
    if turn.check is not None:
        leased = _claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding, only=turn.check)
    if leased is None and turn.work:
        leased = _claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
        if leased is None and expire_leases(db, now=now, project_id=project.id):
            leased = _claim(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
    if leased is None and turn is not standings.NOTHING:
        leased = _reclaim(db, project, reviewer_id, now, shown_at=shown_at)
    if leased is not None:
        standings.count(db, project=project, reviewer_id=reviewer_id, turn=turn)
    wake.refill_if_low(db, project, now=now)
    return leased


def extend_lease(
    db: Session, *, reviewer_id: UUID, assignment_id: UUID, now: datetime | None = None
) -> datetime | None:
    """Keep a lease for another ``lease_seconds``, as long as its reviewer is at work; until when, or null if it has
    ended. Kept again and again it ends ``LONGEST_LEASES`` times that long after it was shown."""
    values = {"assignment": assignment_id, "reviewer": reviewer_id, "now": now or utcnow(), "longest": LONGEST_LEASES}
    return db.execute(_EXTEND, values).scalar_one_or_none()


def load_lease(db: Session, *, reviewer_id: UUID, assignment_id: UUID) -> Leased | None:
    """What was handed to this reviewer, whatever became of it since; null if nothing was."""
    row = db.execute(_LOAD, {"assignment": assignment_id, "reviewer": reviewer_id}).mappings().one_or_none()
    return _leased(row) if row else None


def expire_leases(db: Session, *, now: datetime | None = None, project_id: UUID | None = None) -> int:
    """Free the slots whose leases ran out (close them, where the comparison left the queue); how many."""
    return int(db.execute(_EXPIRE, {"now": now or utcnow(), "project": project_id}).scalar_one())


def _held(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    now: datetime,
    *,
    shown_at: datetime | None,
    holding: UUID | None,
) -> Leased | None:
    values = {"reviewer": reviewer_id, "project": project.id, "now": now, "holding": holding}
    row = db.execute(_HELD, values).mappings().one_or_none()
    if row is None:
        return None
    if shown_at is not None and row["shown_at"] is None:
        show_lease(db, project=project, reviewer_id=reviewer_id, assignment_id=row["assignment_id"], now=shown_at)
        return load_lease(db, reviewer_id=reviewer_id, assignment_id=row["assignment_id"])
    return _leased(row)


def _claim(
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
        values = _lease_values(project, reviewer_id, now) | which | {"id": new_id(), "shown_at": shown_at}
        row = db.execute(statement, values).mappings().one_or_none()
        if row is None:
            return None
        if row["won"]:
            return _leased(row)
        held = _held(db, project, reviewer_id, now, shown_at=shown_at, holding=holding)
        if held:
            return held
    return None


def _reclaim(
    db: Session, project: Project, reviewer_id: UUID, now: datetime, *, shown_at: datetime | None
) -> Leased | None:
    values = _lease_values(project, reviewer_id, now) | {"shown_at": shown_at}
    row = db.execute(_RECLAIM, values).one_or_none()
    return load_lease(db, reviewer_id=reviewer_id, assignment_id=row.id) if row else None


def _lease_values(project: Project, reviewer_id: UUID, now: datetime) -> dict[str, Any]:
    expires = now + timedelta(seconds=project.lease_seconds)
    return {"project": project.id, "reviewer": reviewer_id, "now": now, "expires": expires}


def _leased(row: RowMapping) -> Leased:
    texts = (row["text_a"], row["text_b"])
    order = (0, 1) if row["left_side"] == "a" else (1, 0)
    if row["mode"] == "ranking":
        texts, order = tuple(row["texts"]), tuple(row["shown_order"])
    return Leased(
        assignment_id=row["assignment_id"],
        comparison_id=row["comparison_id"],
        project_id=row["project_id"],
        mode=row["mode"],
        messages=row["messages"],
        answers=tuple(texts[position] for position in order),
        leased_at=row["leased_at"],
        expires_at=row["expires_at"],
        holds_slot=row["holds_slot"],
        previous=None if row["previous"] in (None, "undone") else choice_of(row["previous"]),
    )
