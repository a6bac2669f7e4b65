"""What admins decide about reviewers: quarantine and its end, qualification, daily goals. Every act is audited.

Quarantine is reversible: nothing is deleted. The reviewer is handed nothing more. Their votes that no round has read
free their slots for others and count nowhere; those that one has read count in no further round. When it ends, all
count again whose slot is still theirs or free; the others stay as surplus.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons import setting_aside
from app.comparisons.setting_aside import BroughtBack, SetAside
from app.db.base import utcnow
from app.db.tables import Project
from app.journal import audit, outbox
from app.journal.queues import REFILL
from app.language import _
from app.reviewers import queries
from app.reviewers.errors import AlreadyPausedError, NoReviewerError, NotPausedError

MAX_REASON_CHARS = 1000

_PAUSE = text("""
    INSERT INTO standings (project_id, reviewer_id, paused_at, paused_reason)
    VALUES (:project, :reviewer, :now, :reason)
    ON CONFLICT (project_id, reviewer_id) DO UPDATE SET paused_at = :now, paused_reason = :reason
    WHERE standings.paused_at IS NULL
    RETURNING reviewer_id
""")

_RELEASE = text("""
    UPDATE standings SET paused_at = NULL, paused_reason = NULL
    WHERE project_id = :project AND reviewer_id = :reviewer AND paused_at IS NOT NULL
    RETURNING reviewer_id
""")

_SET_QUALIFICATION = text("""
    INSERT INTO standings (project_id, reviewer_id, qualification, qualification_reset_at)
    VALUES (:project, :reviewer, :value, :reset_at)
    ON CONFLICT (project_id, reviewer_id)
    DO UPDATE SET qualification = :value,
                  qualification_reset_at = coalesce(:reset_at, standings.qualification_reset_at)
""").bindparams(bindparam("reset_at", type_=DateTime(timezone=True)))

_SET_GOAL = text("""
    INSERT INTO standings (project_id, reviewer_id, daily_goal) VALUES (:project, :reviewer, :value)
    ON CONFLICT (project_id, reviewer_id) DO UPDATE SET daily_goal = :value
""")


def quarantine(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    *,
    reason: str,
    actor: UUID | None,
    now: datetime | None = None,
    **data: Any,
) -> SetAside:
    """Pause a reviewer and set their unread votes aside.

    Args:
        actor: null where the system itself acts.
        data: what else the audit log keeps of it.

    Raises:
        NoReviewerError: nobody of this id has to do with the project.
        AlreadyPausedError: nothing was changed.
    """
    person = reviewer(db, project, reviewer_id)
    names = {"project": project.id, "reviewer": reviewer_id}
    setting_aside.lock(db, project_id=project.id, reviewer_id=reviewer_id)
    told = reason.strip()[:MAX_REASON_CHARS] or _("no reason was given")
    if db.execute(_PAUSE, names | {"now": now or utcnow(), "reason": told}).scalar_one_or_none() is None:
        raise AlreadyPausedError(
            _("%(email)s is in quarantine already.", email=person.email), mend=_("Nothing needs to be done.")
        )
    votes = setting_aside.set_aside(db, project_id=project.id, reviewer_id=reviewer_id)
    data |= {"reason": told, "votes": votes.unread, "read": votes.read}
    _record(db, project, reviewer_id, actor, "reviewer.quarantine", **data)
    return votes


def release(db: Session, project: Project, reviewer_id: UUID, *, actor: UUID | None) -> BroughtBack:
    """End a quarantine.

    Raises:
        NoReviewerError, NotPausedError: nothing was changed.
    """
    person = reviewer(db, project, reviewer_id)
    setting_aside.lock(db, project_id=project.id, reviewer_id=reviewer_id)
    if db.execute(_RELEASE, {"project": project.id, "reviewer": reviewer_id}).scalar_one_or_none() is None:
        raise NotPausedError(
            _("%(email)s is not in quarantine.", email=person.email), mend=_("Nothing needs to be done.")
        )
    back = setting_aside.bring_back(db, project_id=project.id, reviewer_id=reviewer_id)
    data = {"counted": back.counted, "surplus": back.surplus, "read": back.read}
    _record(db, project, reviewer_id, actor, "reviewer.release", **data)
    outbox.enqueue(db, REFILL, str(project.id))
    return back


def set_qualification(
    db: Session,
    project: Project,
    reviewer_id: UUID,
    value: Literal["open", "waived"],
    *,
    actor: UUID | None,
    now: datetime | None = None,
) -> None:
    """Let a reviewer go on to real work ('waived'), or back to the qualification round ('open').

    Gold pairs they have judged stay judged and are not given again: with 'open', they are decided on by others.

    Raises:
        NoReviewerError: nobody of this id has to do with the project.
    """
    reviewer(db, project, reviewer_id)
    reset_at = (now or utcnow()) if value == "open" else None
    names = {"project": project.id, "reviewer": reviewer_id}
    db.execute(_SET_QUALIFICATION, names | {"value": value, "reset_at": reset_at})
    _record(db, project, reviewer_id, actor, "reviewer.qualification", value=value)


def set_goal(db: Session, project: Project, reviewer_id: UUID, pairs: int | None, *, actor: UUID | None) -> None:
    """Give a reviewer a daily goal of their own; null: the project's.

    Raises:
        NoReviewerError: nobody of this id has to do with the project.
    """
    reviewer(db, project, reviewer_id)
    db.execute(_SET_GOAL, {"project": project.id, "reviewer": reviewer_id, "value": pairs})
    _record(db, project, reviewer_id, actor, "reviewer.goal", pairs=pairs)


def reviewer(db: Session, project: Project, reviewer_id: UUID) -> queries.Person:
    """Somebody who reviews here.

    Raises:
        NoReviewerError: nobody of this id has to do with the project.
    """
    found = queries.people(db, project, only=reviewer_id)
    if not found:
        raise NoReviewerError(
            _("Nobody with the id %(reviewer_id)s reviews here.", reviewer_id=reviewer_id),
            mend=_("Look in the list of reviewers."),
        )
    return found[0]


def _record(db: Session, project: Project, reviewer_id: UUID, actor: UUID | None, action: str, **data: Any) -> None:
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=f"user:{reviewer_id}", **data)
