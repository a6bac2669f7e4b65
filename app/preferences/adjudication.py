"""Settling contradictions: an admin decides about a pair, and may take it back. Every decision is kept and audited.

Votes stay as they are. As long as a decision stands, a round reads it in their place (``aggregating``); what a round
has read stays in its snapshot, whatever is withdrawn later. 'leave' takes a pair off the list and changes nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.comparisons.records import Side, meant_of
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Adjudication, Project
from app.errors import ConflictError, InvalidError, NotFoundError
from app.journal import audit
from app.language import _
from app.preferences.contradictions import Disputed, disputed, is_pair, side_for
from app.preferences.records import Settled
from app.projects.archived import refuse_archived

Outcome = Literal["a", "b", "tie", "both_bad", "leave"]
MAX_NOTE_CHARS = 4000


class NoPairError(NotFoundError):
    """The project has no pair of this id that reviewers judged as work."""

    code = "no_pair"
    title = _("No such pair")


class NotContestedError(ConflictError):
    """Reviewers do not contradict each other on the pair."""

    code = "not_contested"
    title = _("Nothing to settle")


class DecisionInvalidError(InvalidError):
    """A decision that does not hold together."""

    code = "decision_invalid"
    title = _("This is no decision")


class AlreadySettledError(ConflictError):
    """Somebody has decided about the pair."""

    code = "already_settled"
    title = _("Already settled")


class NotSettledError(ConflictError):
    """Nobody has decided about the pair, or it was withdrawn."""

    code = "not_settled"
    title = _("Not settled")


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, in the sides of whoever reads it."""

    id: UUID
    comparison_id: UUID
    choice: str
    """As ``Outcome`` has it."""
    strength: int | None
    note: str
    swapped: bool
    """Whoever decided saw the answers the other way round: a note that says A means B."""
    saw_votes: bool
    who: str
    decided_by: UUID
    at: datetime
    withdrawn_at: datetime | None
    withdrawn_who: str | None
    read: bool
    """A round has read it."""


def standing(db: Session, project: Project) -> dict[UUID, Settled]:
    """Comparison → the decision that speaks in the place of its votes."""
    rows = db.scalars(
        select(Adjudication).where(
            Adjudication.project_id == project.id,
            Adjudication.withdrawn_at.is_(None),
            Adjudication.outcome != "leave",
        )
    )
    return {row.comparison_id: Settled(row.id, row.outcome, row.strength, row.created_at) for row in rows}


def shown(db: Session, project: Project, comparison_id: UUID, viewer_id: UUID) -> tuple[Disputed, list[Decision]]:
    """A pair and all decisions about it, the newest first.

    It is shown to this person in sides of their own; once a decision stands, in those that its note speaks of.

    Raises:
        NoPairError: the project has no such pair.
    """
    row = _standing(db, comparison_id)
    left_side: Side = side_for(comparison_id, viewer_id)
    if row is not None and row.project_id == project.id:
        left_side = "a" if row.left_side == "a" else "b"
    pair = disputed(db, project, comparison_id, left_side)
    if pair is None:
        raise _no_pair()
    return pair, history(db, project, comparison_id, left_side)


def decide(
    db: Session,
    project: Project,
    comparison_id: UUID,
    *,
    choice: Outcome,
    actor: UUID,
    strength: int | None = None,
    note: str = "",
    saw_votes: bool,
) -> UUID:
    """Settle a pair, in the sides of ``actor``; the decision's id. Sent twice, it is decided once.

    Raises:
        NoPairError: the project has no such pair.
        NotContestedError: reviewers do not contradict each other on it.
        DecisionInvalidError: it does not hold together.
        AlreadySettledError: another decision stands.
        ProjectArchivedError: the project takes no decisions.
    """
    _check(choice, strength, note)
    left_side = side_for(comparison_id, actor)
    pair = disputed(db, project, comparison_id, left_side)
    if pair is None:
        raise _no_pair()
    said = {
        "outcome": meant_of(choice, left_side),
        "strength": strength,
        "note": note.strip(),
        "left_side": left_side,
        "saw_votes": saw_votes,
        "decided_by": actor,
    }
    before = _standing(db, comparison_id)
    if before is None:
        refuse_archived(project)
        if not pair.contested:
            raise NotContestedError(
                _("Reviewers do not contradict each other on this pair."),
                mend=_("Look in the list of contradictions; a vote may have been changed."),
            )
        row = {"id": new_id(), "project_id": project.id, "comparison_id": comparison_id} | said
        add = insert(Adjudication).values(**row).on_conflict_do_nothing().returning(Adjudication.id)
        made = db.execute(add).scalar_one_or_none()
        if made is not None:
            _record(db, project, comparison_id, actor, "adjudication.decide", said)
            return made
        before = _standing(db, comparison_id)
    if before is not None and {name: getattr(before, name) for name in said} == said:
        return before.id
    raise AlreadySettledError(
        _("A decision about this pair stands already."), mend=_("Look at it; withdraw it to decide anew.")
    )


_WITHDRAW = (
    update(Adjudication)
    .where(Adjudication.withdrawn_at.is_(None))
    .returning(Adjudication.outcome, Adjudication.decided_by)
    .execution_options(synchronize_session=False)
)


def withdraw(db: Session, project: Project, comparison_id: UUID, *, actor: UUID) -> None:
    """Take the standing decision back: the votes speak again, and the pair waits again.

    Raises:
        NoPairError: the project has no such pair.
        NotSettledError: none stands.
        ProjectArchivedError: the project takes no decisions, and none back.
    """
    if not is_pair(db, project, comparison_id):
        raise _no_pair()
    refuse_archived(project)
    row = db.execute(
        _WITHDRAW.where(Adjudication.comparison_id == comparison_id, Adjudication.project_id == project.id).values(
            withdrawn_at=utcnow(), withdrawn_by=actor
        )
    ).one_or_none()
    if row is None:
        raise NotSettledError(
            _("No decision about this pair stands."), mend=_("Another admin may have withdrawn it: look again.")
        )
    said = {"outcome": row.outcome, "decided_by": row.decided_by}
    _record(db, project, comparison_id, actor, "adjudication.withdraw", said)


_DECISIONS = """
    SELECT d.id, d.comparison_id, d.outcome, d.strength, d.note, d.left_side, d.saw_votes, d.decided_by,
           coalesce(nullif(u.name, ''), u.email) AS who, d.created_at AS at, d.withdrawn_at,
           coalesce(nullif(w.name, ''), w.email) AS withdrawn_who,
           EXISTS (SELECT 1 FROM round_examples e
                   WHERE e.comparison_id = d.comparison_id AND e.adjudication_id = d.id) AS read
    FROM adjudications d
    JOIN users u ON u.id = d.decided_by
    LEFT JOIN users w ON w.id = d.withdrawn_by
    WHERE d.project_id = :project
"""
_HISTORY = text(f"{_DECISIONS} AND d.comparison_id = :comparison ORDER BY d.id DESC")
_DECIDED = text(f"""
    SELECT d.*, p.messages, CASE WHEN d.left_side = 'a' THEN x.text ELSE y.text END AS a,
           CASE WHEN d.left_side = 'a' THEN y.text ELSE x.text END AS b
    FROM ({_DECISIONS} AND (CAST(:before AS uuid) IS NULL OR d.id < :before) ORDER BY d.id DESC LIMIT :limit) d
    JOIN comparisons c ON c.id = d.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    ORDER BY d.id DESC
""")  # noqa: S608 - composed of constants


@dataclass(frozen=True, slots=True)
class Past:
    """A decision in the list of all of them, with the pair as whoever decided saw it."""

    decision: Decision
    messages: list[dict[str, Any]]
    a: str
    b: str


def history(db: Session, project: Project, comparison_id: UUID, left_side: Side) -> list[Decision]:
    """What was decided about a pair, withdrawn or not, the newest first; A being that completion."""
    rows = db.execute(_HISTORY, {"project": project.id, "comparison": comparison_id})
    return [_decision(row, left_side) for row in rows]


def decided(db: Session, project: Project, *, limit: int, before: UUID | None = None) -> Sequence[Past]:
    """Everything that was decided in a project, withdrawn or not, the newest first.

    Args:
        before: the last decision of the page before.
    """
    rows = db.execute(_DECIDED, {"project": project.id, "before": before, "limit": limit})
    return [Past(_decision(row, row.left_side), row.messages, row.a, row.b) for row in rows]


def _decision(row: Any, left_side: Side) -> Decision:
    return Decision(
        id=row.id,
        comparison_id=row.comparison_id,
        choice=meant_of(row.outcome, left_side),
        strength=row.strength,
        note=row.note,
        swapped=row.left_side != left_side,
        saw_votes=row.saw_votes,
        who=row.who,
        decided_by=row.decided_by,
        at=row.at,
        withdrawn_at=row.withdrawn_at,
        withdrawn_who=row.withdrawn_who,
        read=row.read,
    )


def _standing(db: Session, comparison_id: UUID) -> Adjudication | None:
    return db.scalar(
        select(Adjudication).where(Adjudication.comparison_id == comparison_id, Adjudication.withdrawn_at.is_(None))
    )


def _check(choice: str, strength: int | None, note: str) -> None:
    if choice not in get_args(Outcome):
        raise DecisionInvalidError(
            _("The choice %(choice)s is unknown.", choice=repr(choice)),
            mend=_("Choose one of %(choice)s.", choice=", ".join(get_args(Outcome))),
        )
    if strength is not None and (choice not in ("a", "b") or strength not in (1, 2, 3)):
        raise DecisionInvalidError(
            _("Strength %(strength)s does not fit the choice %(choice)s.", strength=strength, choice=repr(choice)),
            mend=_("Send 1, 2 or 3 with the choice a or b, or leave it out."),
        )
    if len(note) > MAX_NOTE_CHARS or "\x00" in note:
        raise DecisionInvalidError(
            _("The note has %(count)s characters, or one that cannot be stored.", count=len(note)),
            mend=_("Keep it to %(limit)s.", limit=MAX_NOTE_CHARS),
        )


def _no_pair() -> NoPairError:
    return NoPairError(_("The project has no such pair."), mend=_("Look in the list of contradictions."))


def _record(db: Session, project: Project, comparison_id: UUID, actor: UUID, action: str, said: dict[str, Any]) -> None:
    kept = {name: str(value) if isinstance(value, UUID) else value for name, value in said.items()}
    kept.pop("note", None)  # it is kept with the decision
    subject = f"comparison:{comparison_id}"
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=subject, **kept)
