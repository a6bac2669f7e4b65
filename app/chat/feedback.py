"""What an API client says of the answers it was given: which of two is better, or a thumb for one."""

import re
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.chat.schemas import AnswerRef, FeedbackIn, FeedbackOut
from app.comparisons.service import record_feedback, record_label, uses_feedback
from app.db.tables import Chat, ChatAnswer, Completion, Project, Prompt
from app.errors import NotFoundError

_CHAT_ID = re.compile(r"^chatcmpl-([0-9a-f]{32})$")


class AnswerNotFoundError(NotFoundError):
    """No such answer of the caller's, or one that was not kept."""

    code = "answer_not_found"
    title = "No such answer"


@dataclass(frozen=True, slots=True)
class Given:
    """Feedback with the answers it speaks of."""

    project_id: UUID
    completions: list[Completion]


def find(db: Session, user_id: UUID, body: FeedbackIn) -> Given:
    """The answers that are spoken of: of chats that this person's tokens held, and that were kept.

    Raises:
        AnswerNotFoundError: one of them is not there.
    """
    found = [_answer(db, user_id, ref) for ref in body.named]
    projects = {chat.project_id for chat, _ in found}
    if len(projects) > 1:
        raise AnswerNotFoundError("The two answers belong to different projects.", mend="Compare answers of one.")
    return Given(projects.pop(), [completion for _, completion in found])


def record(
    db: Session, project: Project, user_id: UUID, body: FeedbackIn, given: Given, key: str | None
) -> FeedbackOut:
    """Store it. The same key with the same feedback is answered as the first time.

    Raises:
        PairInvalidError, KeyReusedError, PairInReviewError, VoteFrozenError: see ``record_feedback``.
    """
    prompt = db.get_one(Prompt, given.completions[0].prompt_id)
    idle = project.feedback == "ignore" or not uses_feedback(db, project, user_id)
    used = "nothing" if idle else "evaluation" if prompt.held_out else "training"
    if body.choice is not None:
        a, b = given.completions
        stored = record_feedback(
            db,
            project=project,
            user_id=user_id,
            a=a,
            b=b,
            choice=body.choice,
            strength=body.strength,
            comment=body.comment,
            idempotency_key=key,
        )
        return FeedbackOut(
            id=stored.vote.id,
            kind="preference",
            choice=body.choice,
            revision=stored.vote.revision,
            used_for="nothing" if stored.vote.surplus else used,
            counted=stored.counted,
            created_at=stored.vote.created_at,
            replayed=stored.replayed,
        )
    desirable = {"up": True, "down": False}.get(body.thumb or "")
    label = record_label(
        db,
        project=project,
        user_id=user_id,
        completion=given.completions[0],
        desirable=desirable,
        comment=body.comment,
        idempotency_key=key,
    )
    return FeedbackOut(
        id=label.label.id,
        kind="label",
        thumb=body.thumb,
        revision=label.label.revision,
        used_for="nothing" if desirable is None else used,
        counted=False,
        created_at=label.label.created_at,
        replayed=label.replayed,
    )


def _answer(db: Session, user_id: UUID, ref: AnswerRef) -> tuple[Chat, Completion]:
    named = _CHAT_ID.match(ref.id)
    row = (
        named
        and db.execute(
            select(Chat, Completion)
            .join(ChatAnswer, ChatAnswer.chat_id == Chat.id)
            .join(Completion, Completion.id == ChatAnswer.completion_id)
            .where(Chat.id == UUID(named[1]), ChatAnswer.index == ref.index, Chat.user_id == user_id)
        ).one_or_none()
    )
    if not row:
        raise AnswerNotFoundError(
            f"There is no kept answer {ref.index} of {ref.id!r} that a key of yours was given.",
            mend="Send `id` and `index` as they were in the answer. Only keys that keep answers can be told: see your "
            "account page, and `hone.kept` in each answer.",
        )
    chat, completion = row
    return chat, completion
