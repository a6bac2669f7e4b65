"""Thumbs up or down: what an API client says of one answer by itself. Appended to, never overwritten."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.comparisons.ballots import checked
from app.comparisons.errors import KeyReusedError
from app.comparisons.records import Ballot
from app.db.ids import new_id
from app.db.tables import Completion, CompletionLabel, Project
from app.projects.archived import refuse_archived


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was stored of a label."""

    label: CompletionLabel
    replayed: bool


def record_label(
    db: Session,
    *,
    project: Project,
    user_id: UUID,
    completion: Completion,
    desirable: bool | None,
    comment: str | None = None,
    idempotency_key: str | None = None,
) -> Labelled:
    """Store that somebody finds an answer good or bad; None takes it back. The latest word of each person counts.

    Raises:
        VoteInvalidError: the comment or the key cannot be stored.
        KeyReusedError: the key was sent before with something else.
        ProjectArchivedError: the project takes no thumbs.
    """
    said = checked(Ballot("tie", comment=comment), idempotency_key)  # the rules for comments and keys are the same
    db.execute(select(Completion.id).where(Completion.id == completion.id).with_for_update(key_share=True))
    mine = select(CompletionLabel).where(CompletionLabel.user_id == user_id)
    if idempotency_key is not None:
        stored = db.scalar(mine.where(CompletionLabel.idempotency_key == idempotency_key))
        if stored is not None:
            if (stored.completion_id, stored.desirable, stored.comment) != (completion.id, desirable, said.comment):
                raise KeyReusedError(idempotency_key)
            return Labelled(stored, replayed=True)
    refuse_archived(project)
    last = db.scalar(
        mine.where(CompletionLabel.completion_id == completion.id)
        .order_by(CompletionLabel.revision.desc())
        .limit(1)
        .with_only_columns(CompletionLabel.revision)
    )
    label = db.scalars(
        insert(CompletionLabel)
        .values(
            id=new_id(),
            project_id=project.id,
            completion_id=completion.id,
            user_id=user_id,
            revision=(last or 0) + 1,
            desirable=desirable,
            comment=said.comment,
            source="feedback",
            idempotency_key=idempotency_key,
        )
        .on_conflict_do_nothing(
            index_elements=["user_id", "idempotency_key"], index_where=text("idempotency_key IS NOT NULL")
        )
        .returning(CompletionLabel)
    ).one_or_none()
    if label is None:  # the key was used for another answer while this one was being locked
        raise KeyReusedError(idempotency_key or "")
    return Labelled(label, replayed=False)
