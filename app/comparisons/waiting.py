"""Why a reviewer has nothing to judge, in the words of the page that says so."""

from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.checks import gold_ahead
from app.comparisons.qualifying import Bar, bar
from app.db.tables import Project

Why = Literal[
    "archived",
    "paused",
    "unqualified",
    "no_gold",
    "importing",
    "import_failed",
    "no_model",
    "no_prompts",
    "engine_down",
    "filling",
]
"""archived: the project is put aside · paused: the reviewer is in quarantine · unqualified: the qualification round was
not passed · no_gold: it cannot go on, for its pairs have run out · importing: version 1 is being brought in ·
import_failed: that did not work · no_model: nobody has started it · no_prompts: there is nothing to answer ·
engine_down: the refill has a problem · filling: new pairs are on their way (there is no end to them: what somebody has
judged is replaced)."""

_FACTS = text("""
    SELECT
      EXISTS (SELECT 1 FROM versions WHERE project_id = :project AND state = 'current') AS has_model,
      (SELECT state FROM rounds WHERE project_id = :project AND kind = 'import'
       ORDER BY created_at DESC LIMIT 1) AS import_state,
      EXISTS (SELECT 1 FROM prompts
              WHERE project_id = :project AND archived_at IS NULL AND problem IS NULL) AS has_prompts
""")

_OF_BAR: dict[Bar, Why] = {"paused": "paused", "failed": "unqualified", "qualifying": "no_gold", "new": "no_gold"}


Hindered = Literal["archived", "paused", "unqualified", "no_gold", "first_part"]
"""As in ``Why``; and first_part: gold pairs wait, and real work comes after them."""


def hindered(db: Session, project: Project, reviewer_id: UUID) -> Hindered | None:
    """What stands between a reviewer and the work in the queue, before they ask for a pair; null: nothing."""
    if project.archived_at is not None:
        return "archived"
    kept = bar(db, project, reviewer_id)
    if kept is None:
        return None
    if kept in ("new", "qualifying"):
        return "first_part" if gold_ahead(db, project, reviewer_id) else "no_gold"
    return "paused" if kept == "paused" else "unqualified"


def why_empty(db: Session, project: Project, reviewer_id: UUID) -> Why:
    """The first reason that holds for this reviewer."""
    if project.archived_at is not None:
        return "archived"
    kept = bar(db, project, reviewer_id)
    if kept is not None:
        return _OF_BAR[kept]
    facts = db.execute(_FACTS, {"project": project.id}).one()
    if not facts.has_model:
        if facts.import_state in ("queued", "preparing", "training", "publishing"):
            return "importing"
        return "import_failed" if facts.import_state in ("failed", "cancelled") else "no_model"
    if not facts.has_prompts:
        return "no_prompts"
    return "engine_down" if project.refill_problem else "filling"
