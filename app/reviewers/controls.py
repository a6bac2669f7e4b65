"""Pairs with a known answer: written by admins, promoted from unanimous votes, or made by misplacing an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import DateTime, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Completion, Control, Project, Prompt
from app.journal import audit
from app.language import _
from app.lines import with_newlines
from app.prompts.conversations import Conversation
from app.prompts.service import add_prompts
from app.reviewers.errors import ControlExistsError, ControlInvalidError, NoControlError

Kind = Literal["gold", "attention"]
Origin = Literal["admin", "unanimous", "made"]

MAX_ANSWER_CHARS = 50_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A control with what reviewers made of it."""

    id: UUID
    created_at: datetime
    kind: str
    origin: str
    note: str
    messages: list[dict[str, Any]]
    better: str
    worse: str
    judged: int
    right: int
    flagged: int
    retired: bool

    @property
    def place(self) -> "Place":
        """Where it stands in the list."""
        return self.retired, self.created_at, self.id

    @property
    def doubtful(self) -> bool:
        """Most who judged it see it the other way: the known answer may be wrong."""
        return self.judged >= 5 and self.right * 2 < self.judged


Place = tuple[bool, datetime, UUID]
"""Whether it is retired, since when it is there, and which it is."""


def add(
    db: Session,
    project: Project,
    *,
    kind: Kind,
    messages: Conversation,
    better: str,
    worse: str,
    note: str = "",
    actor: UUID | None,
) -> Control:
    """A pair that an admin wrote. A prompt that is new with it is put aside: no pairs are sampled for it.

    Raises:
        ControlInvalidError: an answer is empty or too long, or both read the same.
        ControlExistsError: there is one of the same prompt with the same answers.
    """
    better, worse = with_newlines(better).strip(), with_newlines(worse).strip()
    for name, answer in (("better", better), ("worse", worse)):
        if not answer:
            raise ControlInvalidError(_("The %(name)s answer is empty.", name=name), mend=_("Write both answers."))
        if len(answer) > MAX_ANSWER_CHARS or "\x00" in answer:
            raise ControlInvalidError(
                _("The %(name)s answer has %(answer)s characters or a null among them.", name=name, answer=len(answer)),
                mend=_("Keep it to %(max_answer_chars)s plain ones.", max_answer_chars=MAX_ANSWER_CHARS),
            )
    if better == worse:
        raise ControlInvalidError(_("Both answers read the same."), mend=_("Write two that differ."))
    (outcome,) = add_prompts(db, project, [messages], source="form", created_by=actor).outcomes
    prompt = outcome.prompt
    if outcome.created:
        db.execute(update(Prompt).where(Prompt.id == prompt.id).values(archived_at=utcnow()))
    if _has_equal(db, prompt.id, better, worse):
        raise ControlExistsError(_("There is such a pair of these two answers."), mend=_("Use the one there is."))
    rows = [_written(project, prompt.id, answer) for answer in (better, worse)]
    db.add_all(rows)
    db.flush()
    control = _store(db, project, kind, prompt.id, rows[0].id, rows[1].id, "a", "admin", note=note, actor=actor)
    if control is None:
        raise ControlExistsError(_("There is such a pair of these two answers."), mend=_("Use the one there is."))
    _record(db, project, actor, "check.add", control, kind=kind)
    return control


# Everybody who judged the pair preferred the same side, as many as there are slots, and nobody flagged it.
_UNANIMOUS = text("""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id) v.assignment_id, v.comparison_id, v.choice
        FROM votes v WHERE v.project_id = :project ORDER BY v.assignment_id, v.revision DESC
    )
    SELECT c.id, c.prompt_id, c.completion_a_id, c.completion_b_id, min(l.choice) AS answer, count(*) AS votes
    FROM comparisons c
    JOIN latest l ON l.comparison_id = c.id
    JOIN assignments a ON a.id = l.assignment_id AND a.state = 'voted'
    WHERE c.project_id = :project AND c.purpose = 'work' AND c.mode = 'pair' AND c.state = 'complete'
      AND NOT EXISTS (SELECT 1 FROM controls k WHERE k.source_id = c.id)
    GROUP BY c.id
    HAVING count(*) >= :fewest AND min(l.choice) = max(l.choice) AND min(l.choice) IN ('a', 'b')
    ORDER BY count(*) DESC, c.id
    LIMIT :most
""")


def promote_unanimous(
    db: Session, project: Project, *, fewest_votes: int = 3, most: int = 50, actor: UUID | None
) -> list[Control]:
    """Gold out of pairs on which at least so many reviewers agreed without exception; the newly made ones.

    Nobody who judged such a pair is given it as gold.
    """
    values = {"project": project.id, "fewest": fewest_votes, "most": most}
    made = []
    for row in db.execute(_UNANIMOUS, values).all():
        control = _store(
            db,
            project,
            "gold",
            row.prompt_id,
            row.completion_a_id,
            row.completion_b_id,
            row.answer,
            "unanimous",
            note=_("%(n)s of %(n)s reviewers agreed", n=row.votes),
            actor=actor,
            source_id=row.id,
        )
        if control is not None:
            made.append(control)
            _record(db, project, actor, "check.promote", control, votes=row.votes)
    return made


_ANSWERED = text("""
    SELECT p.id AS prompt_id, x.text AS answer
    FROM prompts p
    JOIN LATERAL (SELECT text FROM completions WHERE prompt_id = p.id AND version_id IS NOT NULL
                  ORDER BY created_at DESC LIMIT 1) x ON true
    WHERE p.project_id = :project AND NOT EXISTS (
        SELECT 1 FROM controls k WHERE k.prompt_id = p.id AND k.kind = 'attention')
    ORDER BY p.id
    LIMIT 5000
""")


def make_attention(db: Session, project: Project, *, count: int, rng: Random, actor: UUID | None) -> list[Control]:
    """Attention pairs from what was sampled: an answer to its prompt, beside one that belongs to another prompt.

    Look through them before they are used: where answers are poor, the misplaced one may not be the worse.

    Raises:
        ControlInvalidError: fewer than two prompts have an answer.
    """
    rows: Sequence[Any] = db.execute(_ANSWERED, {"project": project.id}).all()
    if len(rows) < 2:
        raise ControlInvalidError(
            _("%(rows)s prompts have an answer; an attention pair takes the answers of two.", rows=len(rows)),
            mend=_("Wait until pairs are being made, or write the pair yourself."),
        )
    made = []
    for row in rng.sample(list(rows), min(count, len(rows))):
        other = rng.choice([item for item in rows if item.prompt_id != row.prompt_id])
        if other.answer.strip() == row.answer.strip():
            continue
        answers = [_written(project, row.prompt_id, answer) for answer in (row.answer, other.answer)]
        db.add_all(answers)
        db.flush()
        control = _store(
            db, project, "attention", row.prompt_id, answers[0].id, answers[1].id, "a", "made", actor=actor
        )
        if control is not None:
            made.append(control)
            _record(db, project, actor, "check.add", control, kind="attention")
    return made


def retire(db: Session, project: Project, control_id: UUID, *, actor: UUID | None) -> None:
    """Give it to nobody any more; what was said of it stays in the figures.

    Raises:
        NoControlError: there is none of this id in the project.
    """
    found = db.scalar(
        update(Control)
        .where(Control.id == control_id, Control.project_id == project.id)
        .values(retired_at=utcnow())
        .returning(Control.id)
    )
    if found is None:
        raise NoControlError(
            _("The project has no such pair %(control_id)s.", control_id=control_id),
            mend=_("Look in the list of checks."),
        )
    audit.record(db, actor_id=actor, project_id=project.id, action="check.retire", subject=f"control:{control_id}")


_LIST = text("""
    SELECT k.id, k.created_at, k.kind, k.origin, k.note, p.messages, k.retired_at IS NOT NULL AS retired,
           CASE k.answer WHEN 'a' THEN x.text ELSE y.text END AS better,
           CASE k.answer WHEN 'a' THEN y.text ELSE x.text END AS worse,
           coalesce(s.judged, 0) AS judged, coalesce(s."right", 0) AS "right", coalesce(s.flagged, 0) AS flagged
    FROM controls k
    JOIN prompts p ON p.id = k.prompt_id
    JOIN completions x ON x.id = k.completion_a_id
    JOIN completions y ON y.id = k.completion_b_id
    LEFT JOIN LATERAL (
        SELECT count(*) FILTER (WHERE v.choice IN ('a', 'b', 'tie', 'both_bad')) AS judged,
               count(*) FILTER (WHERE v.choice = k.answer) AS "right",
               count(*) FILTER (WHERE v.choice = 'flag') AS flagged
        FROM comparisons c
        JOIN assignments a ON a.comparison_id = c.id
        JOIN LATERAL (SELECT choice FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v ON true
        WHERE c.control_id = k.id
    ) s ON true
    WHERE k.project_id = :project
      AND (CAST(:retired AS boolean) IS NULL
           OR (k.retired_at IS NOT NULL) > :retired
           OR (k.retired_at IS NOT NULL) = :retired AND (k.created_at, k.id) < (:at, CAST(:id AS uuid)))
    ORDER BY k.retired_at IS NOT NULL, k.created_at DESC, k.id DESC
    LIMIT :limit OFFSET :offset
""").bindparams(bindparam("at", type_=DateTime(timezone=True)))


def listed(
    db: Session, project: Project, *, limit: int = 50, offset: int = 0, after: Place | None = None
) -> list[Listed]:
    """The project's pairs with a known answer, newest first, those in use before the retired.

    Args:
        after: only those that come behind this place.
    """
    retired, at, last = after or (None, None, None)
    values = {"project": project.id, "limit": limit, "offset": offset, "retired": retired, "at": at, "id": last}
    rows = db.execute(_LIST, values).mappings()
    return [Listed(**row) for row in rows]


def counts(db: Session, project: Project) -> dict[str, int]:
    """How many of each kind are in use."""
    rows = db.execute(
        text("SELECT kind, count(*) FROM controls WHERE project_id = :project AND retired_at IS NULL GROUP BY kind"),
        {"project": project.id},
    ).all()
    return {"gold": 0, "attention": 0} | {row[0]: row[1] for row in rows}


def _written(project: Project, prompt_id: UUID, answer: str) -> Completion:
    """A text that no version sampled. It never trains, so it has no tokens."""
    return Completion(
        project_id=project.id, prompt_id=prompt_id, version_id=None, text=answer, prompt_ids=[], ids=[], end="human"
    )


def _has_equal(db: Session, prompt_id: UUID, better: str, worse: str) -> bool:
    query = text("""
        SELECT EXISTS (
            SELECT 1 FROM controls k JOIN completions x ON x.id = k.completion_a_id
            JOIN completions y ON y.id = k.completion_b_id
            WHERE k.prompt_id = :prompt AND ((x.text = :better AND y.text = :worse)
                                             OR (x.text = :worse AND y.text = :better)))
    """)
    return bool(db.execute(query, {"prompt": prompt_id, "better": better, "worse": worse}).scalar_one())


def _store(
    db: Session,
    project: Project,
    kind: Kind,
    prompt_id: UUID,
    a: UUID,
    b: UUID,
    answer: str,
    origin: Origin,
    *,
    note: str = "",
    actor: UUID | None,
    source_id: UUID | None = None,
) -> Control | None:
    """The stored control; null when the two completions are one already."""
    created = db.execute(
        insert(Control)
        .values(
            id=new_id(),
            project_id=project.id,
            kind=kind,
            prompt_id=prompt_id,
            completion_a_id=a,
            completion_b_id=b,
            answer=answer,
            origin=origin,
            source_id=source_id,
            note=note.strip()[:1000],
            created_by=actor if origin == "admin" else None,
        )
        .on_conflict_do_nothing()
        .returning(Control.id)
    ).scalar_one_or_none()
    return None if created is None else db.scalar(select(Control).where(Control.id == created))


def _record(db: Session, project: Project, actor: UUID | None, action: str, control: Control, **data: Any) -> None:
    audit.record(db, actor_id=actor, project_id=project.id, action=action, subject=f"control:{control.id}", **data)
