"""How fast people judge, and how many comparisons should therefore be ready."""

import math
from datetime import datetime
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project
from app.projects.refilling import refilling_of

_WINDOWS_MINUTES = (10, 60)

# First words on work, skips and flags among them: they use a comparison up as well.
_JUDGED = text("""
    SELECT count(*) FILTER (WHERE v.created_at > CAST(:now AS timestamptz) - make_interval(mins => :short)) AS short,
           count(*) AS long
    FROM votes v JOIN comparisons c ON c.id = v.comparison_id AND c.purpose = 'work'
    WHERE v.project_id = :project AND v.revision = 1 AND v.source IN ('web', 'api')
      AND v.created_at > CAST(:now AS timestamptz) - make_interval(mins => :long)
""")


def votes_per_minute(db: Session, project_id: UUID, *, now: datetime | None = None) -> float:
    """The pace at present: of the last ten minutes or of the last hour, whichever was faster."""
    short, long = _WINDOWS_MINUTES
    values = {"project": project_id, "now": now or utcnow(), "short": short, "long": long}
    counts = db.execute(_JUDGED, values).one()
    return max(float(counts.short) / short, float(counts.long) / long)


def buffer_target(db: Session, project: Project, *, now: datetime | None = None) -> int:
    """How many comparisons should be ready: at least ``buffer_size``, and at the present pace enough for
    ``refilling.buffer_minutes``, up to ``refilling.buffer_most``."""
    settings = refilling_of(project.refilling)
    if settings.buffer_minutes == 0:
        return project.buffer_size
    pace = votes_per_minute(db, project.id, now=now) / project.votes_per_comparison
    return max(project.buffer_size, min(math.ceil(pace * settings.buffer_minutes), settings.buffer_most))


def measure(db: Session, project: Project, *, now: datetime | None = None) -> int:
    """Write ``buffer_target`` down where leases read it (``projects.refill_target``), and return it."""
    target = buffer_target(db, project, now=now)
    if project.refill_target != target:
        db.execute(
            update(Project)
            .where(Project.id == project.id)
            .values(refill_target=target)
            .execution_options(synchronize_session=False)
        )
    return target
