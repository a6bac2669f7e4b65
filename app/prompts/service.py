"""Adding prompts and putting them aside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Project, Prompt, PromptUpload
from app.errors import NotFoundError
from app.journal import audit, outbox
from app.journal.queues import REFILL
from app.language import _
from app.projects.archived import refuse_archived
from app.prompts.conversations import Conversation, digest, is_held_out
from app.prompts.upload import RowError, parse_upload

LengthCheck = Callable[[Conversation], str | None]
"""Why the current version could not answer a conversation (it is too long, with both numbers), or None."""

MAX_ERRORS_KEPT = 5000
"""Bad rows of an upload that are kept for reading; the rest is only counted."""

_ROWS_PER_INSERT = 1000
_FILENAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one conversation that was handed in."""

    prompt: Prompt
    created: bool
    """False: the project had an equal one already."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of every conversation, in the order they were handed in."""

    outcomes: list[Outcome]

    @property
    def created(self) -> list[Prompt]:
        """The prompts that are new."""
        return [outcome.prompt for outcome in self.outcomes if outcome.created]

    @property
    def existing(self) -> list[Prompt]:
        """Those that were there already; one that came twice is here once per repetition."""
        return [outcome.prompt for outcome in self.outcomes if not outcome.created]


def add_prompts(
    db: Session,
    project: Project,
    conversations: Sequence[Conversation],
    *,
    source: str,
    created_by: UUID | None = None,
) -> Added:
    """Store conversations (normalised by ``conversations.normalise``), each once, and wake the refill.

    Args:
        source: 'api', 'file', 'form', 'chat' or 'demo'.

    Raises:
        ProjectArchivedError: the project takes none.
    """
    refuse_archived(project)
    digests = [digest(conversation) for conversation in conversations]
    rows = {
        key: {
            "id": new_id(),
            "project_id": project.id,
            "digest": key,
            "messages": conversation,
            "held_out": is_held_out(project.id, key, project.held_out_percent),
            "source": source,
            "created_by": created_by,
            "sampled_count": 0,
        }
        for key, conversation in zip(digests, conversations, strict=True)
    }
    fresh: set[bytes] = set()
    for block in _blocks(sorted(rows), _ROWS_PER_INSERT):  # sorted: two uploads at once cannot deadlock
        statement = insert(Prompt).values([rows[key] for key in block]).on_conflict_do_nothing()
        fresh.update(db.scalars(statement.returning(Prompt.digest)))
    stored = _by_digest(db, project, list(rows))
    seen: set[bytes] = set()
    outcomes = []
    for key in digests:
        outcomes.append(Outcome(stored[key], created=key in fresh and key not in seen))
        seen.add(key)
    if fresh:
        outbox.enqueue(db, REFILL, str(project.id))
    return Added(outcomes)


def keep_upload(
    db: Session,
    project: Project,
    data: BinaryIO | bytes,
    filename: str,
    *,
    all_or_nothing: bool,
    max_chars: int,
    check_length: LengthCheck | None = None,
    created_by: UUID | None = None,
) -> PromptUpload:
    """Store the prompts of a file and what became of each row.

    Args:
        all_or_nothing: one bad row refuses the whole file; otherwise the good rows are kept.
        check_length: what the current version says about a conversation, where it can be asked.

    Raises:
        UploadInvalidError, UploadTooLargeError: the file as a whole cannot be read; nothing was kept.
    """
    rows, errors = parse_upload(data, filename, max_chars=max_chars)
    if check_length is not None:
        checked = [(row, check_length(row.conversation)) for row in rows]
        errors += [RowError(row.line, problem) for row, problem in checked if problem is not None]
        rows = [row for row, problem in checked if problem is None]
    dropped = len(rows) if all_or_nothing and errors else 0
    kept = [] if dropped else rows
    added = add_prompts(db, project, [row.conversation for row in kept], source="file", created_by=created_by)
    upload = PromptUpload(
        project_id=project.id,
        created_by=created_by,
        filename=filename[:_FILENAME_CHARS],
        all_or_nothing=all_or_nothing,
        created_count=len(added.created),
        existing_count=len(added.existing),
        refused_count=len(errors),
        dropped_count=dropped,
        errors=[
            {"line": error.line, "message": error.message}
            for error in sorted(errors, key=lambda error: error.line)[:MAX_ERRORS_KEPT]
        ],
    )
    db.add(upload)
    db.flush()
    return upload


def archive(db: Session, project: Project, prompt_id: UUID, *, actor: UUID | None = None) -> Prompt:
    """Put a prompt aside: no new pairs are made of it; its votes stay.

    Raises:
        NotFoundError: the project has no such prompt.
    """
    return _set_archived(db, project, prompt_id, archived=True, actor=actor)


def unarchive(db: Session, project: Project, prompt_id: UUID, *, actor: UUID | None = None) -> Prompt:
    """Take a prompt back into use, also one that was passed over for a problem: it is tried again.

    Raises:
        NotFoundError: the project has no such prompt.
    """
    prompt = _set_archived(db, project, prompt_id, archived=False, actor=actor)
    outbox.enqueue(db, REFILL, str(project.id))
    return prompt


def _set_archived(db: Session, project: Project, prompt_id: UUID, *, archived: bool, actor: UUID | None) -> Prompt:
    prompt = db.scalar(
        select(Prompt).where(Prompt.id == prompt_id, Prompt.project_id == project.id).with_for_update(),
        execution_options={"populate_existing": True},
    )
    if prompt is None:
        raise NotFoundError(
            _("this project has no prompt %(prompt_id)s", prompt_id=prompt_id), mend=_("Reload the list of prompts.")
        )
    if archived == (prompt.archived_at is not None) and (archived or prompt.problem is None):
        return prompt
    prompt.archived_at = utcnow() if archived else None
    if not archived:
        prompt.problem = None
    db.flush()
    act = "prompt.archive" if archived else "prompt.unarchive"
    audit.record(db, actor_id=actor, project_id=project.id, action=act, subject=f"prompt:{prompt_id}")
    return prompt


def _by_digest(db: Session, project: Project, digests: list[bytes]) -> dict[bytes, Prompt]:
    stored: dict[bytes, Prompt] = {}
    for block in _blocks(digests, _ROWS_PER_INSERT):
        query = select(Prompt).where(Prompt.project_id == project.id, Prompt.digest.in_(block))
        stored.update({prompt.digest: prompt for prompt in db.scalars(query)})
    return stored


def _blocks(items: list[bytes], size: int) -> list[list[bytes]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
