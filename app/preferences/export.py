"""Everything people said, in formats that others read: what was voted here is not locked in.

``trl``    {"prompt": [messages], "chosen": [message], "rejected": [message]}; ties have no place in it. It says of
           each whether it was ``adjudicated``.
``arena``  a battle a row, as LMSYS' Chatbot Arena published them; ties and "both bad" included, corrections left out:
           a person's edit would win every battle of a leaderboard. Votes stand in it as they were given, whatever was
           decided about their pair.
``groups`` what Hone's own trainer reads (``hone train --data``), token ids included.
``votes``  every vote as it was cast, whether it counts or not; see ``raw``.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Completion, Project, Prompt, Version
from app.errors import InvalidError
from app.journal import audit
from app.language import _
from app.preferences import groups, raw
from app.preferences.collecting import Preference, Split, collect
from app.preferences.labels import collect_labels
from app.preferences.records import implied
from app.projects.aggregation import Aggregation, aggregation_of

_ROWS_PER_QUERY = 500


class ExportFormatUnknownError(InvalidError):
    """There is no such format."""

    code = "export_format_unknown"
    title = _("Unknown export format")

    def __init__(self, given: str) -> None:
        super().__init__(
            _("%(given)s is no export format.", given=repr(given)),
            mend=_("Use one of %(formats)s.", formats=", ".join(FORMATS)),
        )


def export_rows(
    db: Session, project: Project, export_format: str, *, split: Split | None = None
) -> Iterator[dict[str, Any]]:
    """The project's preferences, or its votes, a JSON-ready row at a time; texts are read in parts while they are sent.

    Args:
        split: 'train' leaves out held-out prompts, 'eval' is only those; None has both.

    Raises:
        ExportFormatUnknownError: not one of ``FORMATS``.
    """
    if export_format not in FORMATS:
        raise ExportFormatUnknownError(export_format)
    if export_format == "votes":
        return raw.votes(db, project, split=split)
    # A battle is what one judge said of it; the other formats hold what training would read without window or replay
    # share: those are about one round, and an export leaves nothing behind.
    everything = aggregation_of(project.aggregation).model_copy(update={"window_days": None, "replay_percent": None})
    arena = export_format == "arena"
    settings = Aggregation(corrections=False) if arena else everything
    collected = collect(db, project, settings=settings, settle=not arena)
    preferences = (item for item in collected.preferences if split in (None, item.split))
    if export_format == "groups":
        labels = (label for label in collect_labels(db, project, settings=settings) if split in (None, label.split))
        return groups.groups(db, preferences, labels)
    return _OF_PREFERENCES[export_format](db, project, preferences)


def _trl(db: Session, _project: Project, preferences: Iterator[Preference]) -> Iterator[dict[str, Any]]:
    for item, messages, a, b in _joined(db, preferences):
        if item.outcome in ("a", "b"):
            chosen, rejected = (a, b) if item.outcome == "a" else (b, a)
            yield {
                "prompt": messages,
                "chosen": [_said(chosen)],
                "rejected": [_said(rejected)],
                "split": item.split,
                "adjudicated": item.adjudication_id is not None and not item.correction,
            }


_WINNERS = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}


def _arena(db: Session, project: Project, preferences: Iterator[Preference]) -> Iterator[dict[str, Any]]:
    versions = db.execute(select(Version.id, Version.number).where(Version.project_id == project.id))
    names: dict[UUID | None, str] = {row.id: f"{project.slug}-v{row.number}" for row in versions}
    for item, messages, a, b in _joined(db, preferences):
        yield {
            "question_id": str(item.prompt_id),
            "model_a": names.get(a.version_id, "human"),
            "model_b": names.get(b.version_id, "human"),
            "winner": _WINNERS[str(item.outcome)],
            "judge": str(item.reviewer_id),
            "conversation_a": [*messages, _said(a)],
            "conversation_b": [*messages, _said(b)],
            "turn": sum(message["role"] == "user" for message in messages),
            "anony": True,
            "language": "unknown",
            "tstamp": item.voted_at.timestamp(),
            "split": item.split,
        }


def _groups(db: Session, _project: Project, preferences: Iterator[Preference]) -> Iterator[dict[str, Any]]:
    return groups.groups(db, preferences)


Part = Literal["all", "train", "eval"]
"""What of it is exported: held-out votes are 'eval'."""

_OF_PREFERENCES: dict[str, Callable[[Session, Project, Iterator[Preference]], Iterator[dict[str, Any]]]] = {
    "trl": _trl,
    "arena": _arena,
    "groups": _groups,
}
FORMATS = (*_OF_PREFERENCES, "votes")
"""The formats' names."""


def note(db: Session, project: Project, actor_id: UUID | None, export_format: str, part: Part, **narrowed: str) -> None:
    """Write down that an export was taken; by nobody where it was the command line.

    narrowed: what it was limited to.
    """
    audit.record(
        db,
        actor_id=actor_id,
        project_id=project.id,
        action="preferences.export",
        subject=f"project:{project.id}",
        format=export_format,
        split=part,
        **narrowed,
    )


class _Answer(NamedTuple):
    id: UUID
    text: str
    version_id: UUID | None


def _said(answer: _Answer) -> dict[str, str]:
    return {"role": "assistant", "content": answer.text}


def _joined(db: Session, preferences: Iterator[Preference]) -> Iterator[tuple[Preference, list[Any], _Answer, _Answer]]:
    """Each preference with its prompt's messages and its two answers; of a ranking, every two that it implies.

    Columns only: no row stays in the session.
    """
    pairs = (pair for item in preferences for pair in implied(item))
    while block := list(islice(pairs, _ROWS_PER_QUERY)):
        ids = {id_ for item in block for id_ in item.completions}
        query = select(Completion.id, Completion.text, Completion.version_id).where(Completion.id.in_(ids))
        answers = {row.id: _Answer(*row) for row in db.execute(query)}
        prompts = select(Prompt.id, Prompt.messages).where(Prompt.id.in_({item.prompt_id for item in block}))
        messages = {row.id: row.messages for row in db.execute(prompts)}
        for item in block:
            a, b = item.completions
            yield item, messages[item.prompt_id], answers[a], answers[b]
