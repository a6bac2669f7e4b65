"""Who is kept from counting, and why: in quarantine, or not (yet) past the project's qualification round.

One rule for every door: what is handed out, what a vote or feedback becomes, what a round reads, what pages say.
"""

from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Boolean, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.projects.queue import QueueSettings, queue_of
from app.projects.reviewing import Reviewing, reviewing_of

Bar = Literal["paused", "failed", "qualifying", "new"]
"""paused: in quarantine · failed: judged too few gold pairs right · qualifying: has been given gold pairs, not enough
yet · new: would be given them first."""

IDLE_VOTES: tuple[Bar, ...] = ("paused", "failed")
"""What they say of pairs they were handed is kept and does not count. Whoever qualifies is handed no work, but may hold
some since before there was a round. In the playground, where nothing is handed out, every bar holds."""

IDLE_FEEDBACK: tuple[Bar, ...] = ("paused", "failed", "qualifying")
"""An API client's word is kept and not used. Who was never given a gold pair is a program rather than a reviewer."""

HEARD = """NOT EXISTS (
    SELECT 1 FROM standings mute
    WHERE mute.project_id = a.project_id AND mute.reviewer_id = a.reviewer_id AND mute.paused_at IS NOT NULL)"""
"""SQL: of the votes that hold a place, as assignments ``a``, those that count. A quarantine leaves the places of what a
round has read as they are."""


def asks(queue: QueueSettings, reviewing: Reviewing) -> bool:
    """Whether a project has a qualification round. Gold pairs are pairs: where people rank, there is none."""
    return queue.qualification_pairs > 0 and reviewing.mode == "pair"


def names(project: Project) -> dict[str, Any]:
    """What ``bar_sql`` has to be told of a project."""
    return {"project": project.id, "asks": asks(queue_of(project.queue), reviewing_of(project.reviewing))}


def is_admin_sql(person: str) -> str:
    """Whether the person whose id that expression is administers ``:project``."""
    return f"""(
        EXISTS (SELECT 1 FROM users site WHERE site.id = {person} AND site.is_site_admin)
        OR EXISTS (SELECT 1 FROM memberships m
                   WHERE m.project_id = :project AND m.user_id = {person} AND m.role = 'admin'))"""  # noqa: S608 - constants


def bar_sql(person: str, standing: str = "st") -> str:
    """A person's ``Bar`` in ``:project``, null where their word counts.

    Who judged work before there was a round is not sent through it, unless an admin has their qualification decided
    again. The playground shows whatever is asked there, so a choice made in it is no such work.

    Args:
        person: an expression for their id.
        standing: their row of ``standings`` in that project, which may be missing. ``:asks``: see ``asks``.
    """
    return f"""CASE
        WHEN {standing}.paused_at IS NOT NULL THEN 'paused'
        WHEN NOT :asks OR {standing}.qualification IN ('passed', 'waived') OR {is_admin_sql(person)} THEN NULL
        WHEN {standing}.qualification = 'failed' THEN 'failed'
        WHEN {standing}.qualification_reset_at IS NULL AND EXISTS (
            SELECT 1 FROM votes done JOIN comparisons work ON work.id = done.comparison_id
            WHERE done.reviewer_id = {person} AND done.project_id = :project AND done.source <> 'feedback'
              AND done.choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')
              AND work.purpose = 'work' AND work.strategy <> 'playground') THEN NULL
        WHEN EXISTS (
            SELECT 1 FROM comparisons given
            WHERE given.for_reviewer_id = {person} AND given.project_id = :project AND given.purpose = 'gold')
          THEN 'qualifying'
        ELSE 'new'
    END"""  # noqa: S608 - constants


_BAR = text(f"""
    SELECT {bar_sql(":reviewer")} FROM (SELECT 1) one
    LEFT JOIN standings st ON st.project_id = :project AND st.reviewer_id = :reviewer
""").bindparams(  # noqa: S608 - composed of constants
    bindparam("project", type_=PG_UUID), bindparam("reviewer", type_=PG_UUID), bindparam("asks", type_=Boolean)
)


def bar(db: Session, project: Project, person_id: UUID) -> Bar | None:
    """What keeps this person's word from counting in the project; null: nothing does."""
    found: Bar | None = db.scalar(_BAR, names(project) | {"reviewer": person_id})
    return found


def uses_feedback(db: Session, project: Project, person_id: UUID) -> bool:
    """Whether an API client's own word may count there; if not, it is kept."""
    return bar(db, project, person_id) not in IDLE_FEEDBACK
