"""Where a reviewer stands when they ask for a pair: paused, qualifying, or due for a check."""

from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons import checks, schedule
from app.db.base import utcnow
from app.db.tables import Project
from app.journal import audit
from app.projects.queue import QueueSettings
from app.projects.reviewing import reviewing_of

_ENSURE = text("""
    INSERT INTO standings (project_id, reviewer_id) VALUES (:project, :reviewer) ON CONFLICT DO NOTHING
""")

# The row lock makes one reviewer's requests take turns: each counts one pair handed out.
_READ = text("""
    SELECT st.handed, st.schedule, st.qualification, st.paused_at IS NOT NULL AS paused,
           u.is_site_admin OR EXISTS (
             SELECT 1 FROM memberships m
             WHERE m.project_id = :project AND m.user_id = :reviewer AND m.role = 'admin') AS admin,
           coalesce(
             (SELECT s.comparison_id FROM comparison_slots s
              WHERE s.project_id = :project AND s.state = 'free' AND s.queue_key < 'infinity'
                AND (SELECT seen.id FROM assignments seen
                     WHERE seen.comparison_id = s.comparison_id AND seen.reviewer_id = :reviewer) IS NULL
              ORDER BY s.queue_key LIMIT 1),
             (SELECT c.id FROM comparisons c WHERE c.project_id = :project AND c.purpose = 'work'
              ORDER BY c.id DESC LIMIT 1)) AS next_work
    FROM standings st JOIN users u ON u.id = st.reviewer_id
    WHERE st.project_id = :project AND st.reviewer_id = :reviewer
    FOR UPDATE OF st
""").bindparams(bindparam("project", type_=PG_UUID), bindparam("reviewer", type_=PG_UUID))

_COUNT = text("""
    UPDATE standings SET handed = handed + 1, schedule = :schedule
    WHERE project_id = :project AND reviewer_id = :reviewer
""").bindparams(bindparam("schedule", type_=JSONB))

_QUALIFY = text("""
    UPDATE standings SET qualification = :qualification
    WHERE project_id = :project AND reviewer_id = :reviewer AND qualification = 'open'
""")

_GOLD_SCORE = text("""
    SELECT count(*) AS judged, count(*) FILTER (WHERE v.choice = k.answer) AS correct
    FROM comparisons c
    JOIN controls k ON k.id = c.control_id
    JOIN assignments a ON a.comparison_id = c.id AND a.state IN ('voted', 'surplus')
    JOIN LATERAL (SELECT choice FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v ON true
    WHERE c.for_reviewer_id = :reviewer AND c.project_id = :project AND c.purpose = 'gold'
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


def turn(
    db: Session, *, project: Project, reviewer_id: UUID, queue: QueueSettings, now: datetime | None = None, rng: Random
) -> Turn:
    """Decide on a reviewer's next pair, and make the check if it is to be one.

    In a qualification round everybody but admins is given gold pairs only, until enough are judged; with too few
    right, or none left, nothing. Nothing for whoever is paused: the claim itself sees to that where there are no
    checks.
    """
    if not queue.checks:
        return Turn()
    names = {"project": project.id, "reviewer": reviewer_id}
    db.execute(_ENSURE, names)
    standing = db.execute(_READ, names).one()
    if standing.paused:
        return NOTHING
    ranking = reviewing_of(project.reviewing).mode == "ranking"
    qualification = standing.qualification
    if queue.qualification_pairs and qualification == "open" and not standing.admin and not ranking:
        qualification = _qualified(db, project, reviewer_id, queue)
    if qualification == "failed":
        return NOTHING
    # Controls are pairs: among rankings they would be known by their shape.
    shares = {kind: percent for kind, percent in queue.shares.items() if not ranking or kind == "repeat"}
    plan = schedule.drawn(standing.schedule, shares, standing.handed, rng)
    qualifying = bool(queue.qualification_pairs) and qualification == "open" and not standing.admin and not ranking
    kind = "gold" if qualifying else schedule.due(plan, shares, standing.handed)
    check = checks.make_check(
        db,
        project=project,
        reviewer_id=reviewer_id,
        kind=kind,
        like=standing.next_work,
        own_prompts=queue.own_prompts,
        repeat_after=queue.repeat_after,
        now=now or utcnow(),
        rng=rng,
    )
    if kind in plan:
        plan = schedule.served(plan, str(kind), standing.handed, rng)
    return Turn(check=check, work=not qualifying, schedule=plan)


def count(db: Session, *, project: Project, reviewer_id: UUID, turn: Turn) -> None:
    """A pair was handed out in this turn."""
    if turn.schedule is not None:
        db.execute(_COUNT, {"project": project.id, "reviewer": reviewer_id, "schedule": turn.schedule})


def _qualified(db: Session, project: Project, reviewer_id: UUID, queue: QueueSettings) -> str:
    """'open' until enough gold pairs are judged, then 'passed' or 'failed', once and for all."""
    names = {"project": project.id, "reviewer": reviewer_id}
    score = db.execute(_GOLD_SCORE, names).one()
    if score.judged < queue.qualification_pairs:
        return "open"
    passed = 100 * score.correct >= queue.qualification_percent * score.judged
    outcome = "passed" if passed else "failed"
    db.execute(_QUALIFY, names | {"qualification": outcome})
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
