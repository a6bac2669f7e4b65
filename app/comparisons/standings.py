"""Where a reviewer stands when they ask for a pair: paused, qualifying, or due for a check."""

from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons import checks, schedule
from app.comparisons.qualifying import IDLE_VOTES, asks, bar_sql
from app.db.base import utcnow
from app.db.tables import Project
from app.journal import audit
from app.projects.queue import QueueSettings
from app.projects.reviewing import reviewing_of

_ENSURE = text("""
    INSERT INTO standings (project_id, reviewer_id) VALUES (:project, :reviewer) ON CONFLICT DO NOTHING
""")

# The row lock makes one reviewer's requests take turns: each counts one pair handed out.
_READ = text(f"""
    SELECT st.handed, st.schedule, st.qualification_reset_at, {bar_sql(":reviewer")} AS bar,
           coalesce(
             (SELECT s.comparison_id FROM comparison_slots s
              WHERE s.project_id = :project AND s.state = 'free' AND s.queue_key < 'infinity'
                AND (SELECT seen.id FROM assignments seen
                     WHERE seen.comparison_id = s.comparison_id AND seen.reviewer_id = :reviewer) IS NULL
              ORDER BY s.queue_key LIMIT 1),
             (SELECT c.id FROM comparisons c WHERE c.project_id = :project AND c.purpose = 'work'
              ORDER BY c.id DESC LIMIT 1)) AS next_work
    FROM standings st
    WHERE st.project_id = :project AND st.reviewer_id = :reviewer
    FOR UPDATE OF st
""").bindparams(  # noqa: S608 - composed of constants
    bindparam("project", type_=PG_UUID), bindparam("reviewer", type_=PG_UUID), bindparam("asks", type_=Boolean)
)

_COUNT = text("""
    UPDATE standings SET handed = handed + 1, schedule = :schedule
    WHERE project_id = :project AND reviewer_id = :reviewer
""").bindparams(bindparam("schedule", type_=JSONB))

_QUALIFY = text("""
    UPDATE standings SET qualification = :qualification
    WHERE project_id = :project AND reviewer_id = :reviewer AND qualification = 'open'
    RETURNING reviewer_id
""")

# Since the reset, if there was one: judged then for the first time.
_GOLD_SCORE = text("""
    SELECT count(*) FILTER (WHERE a.state <> 'leased') AS judged,
           count(*) FILTER (WHERE a.state <> 'leased' AND v.choice = k.answer) AS correct,
           count(*) FILTER (WHERE a.state = 'leased' AND a.expires_at > :now) AS in_hand
    FROM comparisons c
    JOIN controls k ON k.id = c.control_id
    JOIN assignments a ON a.comparison_id = c.id AND a.state IN ('voted', 'surplus', 'leased')
    LEFT JOIN LATERAL (SELECT choice FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v ON true
    WHERE c.for_reviewer_id = :reviewer AND c.project_id = :project AND c.purpose = 'gold'
      AND (CAST(:since AS timestamptz) IS NULL OR NOT EXISTS (
        SELECT 1 FROM votes before WHERE before.assignment_id = a.id AND before.created_at < :since))
""")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a reviewer who asks for a pair is to be given."""

    check: UUID | None = None
    """This comparison, made for them."""
    work: bool = True
    """Or, without a check, anything from the queue."""
    schedule: dict[str, Any] | None = None
    """To be stored when something was handed out; null where the project has no checks."""


NOTHING = Turn(work=False)

Outcome = Literal["open", "in_hand", "passed", "failed"]


def turn(
    db: Session, *, project: Project, reviewer_id: UUID, queue: QueueSettings, now: datetime | None = None, rng: Random
) -> Turn:
    """Decide on a reviewer's next pair, and make the check if it is to be one.

    In a qualification round everybody whom the project asks (``qualifying``) is given gold pairs only, as many as it
    takes; with too few right, or none left, nothing. Nothing for whoever is paused: the claim itself sees to that where
    there are no checks.
    """
    if not queue.checks:
        return Turn()
    now, reviewing = now or utcnow(), reviewing_of(project.reviewing)
    names = {"project": project.id, "reviewer": reviewer_id}
    db.execute(_ENSURE, names)
    standing = db.execute(_READ, names | {"asks": asks(queue, reviewing)}).one()
    if standing.bar in IDLE_VOTES:
        return NOTHING
    qualifying = standing.bar is not None
    if qualifying:
        outcome = _qualified(db, project, reviewer_id, queue, since=standing.qualification_reset_at, now=now)
        if outcome in ("failed", "in_hand"):
            return NOTHING
        qualifying = outcome == "open"
    ranking = reviewing.mode == "ranking"
    # Controls are pairs: among rankings they would be known by their shape.
    shares = {kind: percent for kind, percent in queue.shares.items() if not ranking or kind == "repeat"}
    plan = schedule.drawn(standing.schedule, shares, standing.handed, rng)
    kind = "gold" if qualifying else schedule.due(plan, shares, standing.handed)
    check = checks.make_check(
        db,
        project=project,
        reviewer_id=reviewer_id,
        kind=kind,
        like=standing.next_work,
        own_prompts=queue.own_prompts,
        repeat_after=queue.repeat_after,
        now=now,
        rng=rng,
    )
    if kind in plan:
        plan = schedule.served(plan, str(kind), standing.handed, rng)
    return Turn(check=check, work=not qualifying, schedule=plan)


def count(db: Session, *, project: Project, reviewer_id: UUID, turn: Turn) -> None:
    """A pair was handed out in this turn."""
    if turn.schedule is not None:
        db.execute(_COUNT, {"project": project.id, "reviewer": reviewer_id, "schedule": turn.schedule})


def _qualified(
    db: Session, project: Project, reviewer_id: UUID, queue: QueueSettings, *, since: datetime | None, now: datetime
) -> Outcome:
    """'open' until enough gold pairs are judged ('in_hand' when the last of them are being looked at), then 'passed' or
    'failed', until an admin has it decided again."""
    names = {"project": project.id, "reviewer": reviewer_id}
    score = db.execute(_GOLD_SCORE, names | {"since": since, "now": now}).one()
    if score.judged < queue.qualification_pairs:
        return "open" if score.judged + score.in_hand < queue.qualification_pairs else "in_hand"
    passed = 100 * score.correct >= queue.qualification_percent * score.judged
    outcome: Outcome = "passed" if passed else "failed"
    if db.execute(_QUALIFY, names | {"qualification": outcome}).scalar_one_or_none() is None:
        return outcome  # another request of theirs was first
    audit.record(
        db,
        actor_id=None,
        project_id=project.id,
        action=f"reviewer.{outcome}",
        subject=f"user:{reviewer_id}",
        correct=score.correct,
        judged=score.judged,
    )
    return outcome
