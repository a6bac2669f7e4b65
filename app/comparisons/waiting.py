"""Why a reviewer has nothing to judge, in the words of the page that says so."""

from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.projects.queue import queue_of

Why = Literal[
    "paused", "unqualified", "no_gold", "importing", "import_failed", "no_model", "no_prompts", "engine_down", "filling"
]
"""paused: the reviewer is in quarantine · unqualified: the qualification round was not passed · no_gold: it cannot go
on, for its pairs have run out · importing: version 1 is being brought in · import_failed: that did not work ·
no_model: nobody has started it · no_prompts: there is nothing to answer · engine_down: the refill has a problem ·
filling: new pairs are on their way (there is no end to them: what somebody has judged is replaced)."""

_FACTS = text("""
    SELECT
      EXISTS (SELECT 1 FROM versions WHERE project_id = :project AND state = 'current') AS has_model,
      (SELECT state FROM rounds WHERE project_id = :project AND kind = 'import'
       ORDER BY created_at DESC LIMIT 1) AS import_state,
      EXISTS (SELECT 1 FROM prompts
              WHERE project_id = :project AND archived_at IS NULL AND problem IS NULL) AS has_prompts
""")

_STANDING = text("""
    SELECT st.paused_at IS NOT NULL AS paused, st.qualification,
           u.is_site_admin OR EXISTS (
             SELECT 1 FROM memberships m
             WHERE m.project_id = :project AND m.user_id = :reviewer AND m.role = 'admin') AS admin
    FROM standings st JOIN users u ON u.id = st.reviewer_id
    WHERE st.project_id = :project AND st.reviewer_id = :reviewer
""")


def why_empty(db: Session, project: Project, reviewer_id: UUID) -> Why:
    """The first reason that holds for this reviewer."""
    standing = db.execute(_STANDING, {"project": project.id, "reviewer": reviewer_id}).one_or_none()
    if standing is not None:
        if standing.paused:
            return "paused"
        if queue_of(project.queue).qualification_pairs and not standing.admin:
            if standing.qualification == "failed":
                return "unqualified"
            if standing.qualification == "open":
                return "no_gold"
    facts = db.execute(_FACTS, {"project": project.id}).one()
    if not facts.has_model:
        if facts.import_state in ("queued", "preparing", "training", "publishing"):
            return "importing"
        return "import_failed" if facts.import_state in ("failed", "cancelled") else "no_model"
    if not facts.has_prompts:
        return "no_prompts"
    return "engine_down" if project.refill_problem else "filling"
